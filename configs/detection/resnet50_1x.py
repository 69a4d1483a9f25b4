"""Detectron2's own ResNet-50 baseline, Mask R-CNN 1x: for supervised weights.

Source: facebookresearch/detectron2 configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x and
configs/common. timm's ResNet-50 strides in the 3x3 convolution and takes RGB; Detectron2's weights
of that name stride in the 1x1 convolution and take BGR.
"""

import torch
from detectron2.config import LazyCall as L

from .base.mask_rcnn import config

config.arch = "resnet50"
config.output_dir = "outputs/resnet50_1x"
config.backbone_norm = "FrozenBN"
config.freeze_stages = 2
config.optimizer = L(torch.optim.SGD)(lr=0.02, momentum=0.9, weight_decay=1e-4)
config.schedule.update(
    steps=90_000, milestones=[60_000, 80_000], gamma=0.1, warmup_steps=1000, warmup_factor=0.001
)
