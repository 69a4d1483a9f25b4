"""Detectron2's ResNet-50 from scratch, Mask R-CNN for 100 epochs with large-scale jitter.

Source: facebookresearch/detectron2 configs/new_baselines/mask_rcnn_R_50_FPN_100ep_LSJ.py.
"""

import detectron2.data.transforms as T
import torch
from detectron2.config import LazyCall as L

from .base.mask_rcnn import config

IMAGE_PX = 1024

config.arch = "resnet50"
config.output_dir = "outputs/resnet50_100ep"
config.backbone_norm = "SyncBN"
config.model.update(
    fpn_norm="SyncBN",
    box_norm="SyncBN",
    mask_norm="SyncBN",
    rpn_convs=2,
    box_convs=[256, 256, 256, 256],
    box_fcs=[1024],
)
config.input.train = [
    L(T.ResizeScale)(min_scale=0.1, max_scale=2.0, target_height=IMAGE_PX, target_width=IMAGE_PX),
    L(T.FixedSizeCrop)(crop_size=[IMAGE_PX, IMAGE_PX]),
    L(T.RandomFlip)(),
]
config.input.recompute_boxes = True
config.optimizer = L(torch.optim.SGD)(lr=0.1, momentum=0.9, weight_decay=4e-5)
config.schedule.update(
    steps=184_375,  # 100 epochs = 184 375 * 64 / 118 000
    milestones=[163_889, 177_546],
    gamma=0.1,
    warmup_steps=500,
    warmup_factor=0.067,
)
config.train.update(batch_size=64, precision="bf16")
