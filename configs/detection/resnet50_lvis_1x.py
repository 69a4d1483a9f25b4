"""Detectron2's ResNet-50 baseline on LVIS v1, Mask R-CNN 1x: for supervised weights.

Source: facebookresearch/detectron2 configs/LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml.
"""

from .base.lvis import lvis
from .resnet50_1x import config

config.output_dir = "outputs/resnet50_lvis_1x"
lvis(config)
# 28.8 epochs of 100 000 images
config.schedule.update(steps=180_000, milestones=[120_000, 160_000])
