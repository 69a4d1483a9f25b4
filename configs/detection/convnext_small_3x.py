"""ConvNeXt-S (V1) baseline, Cascade Mask R-CNN 3x.

Source: facebookresearch/ConvNeXt object_detection/configs/convnext/
cascade_mask_rcnn_convnext_small_*_3x_coco_in1k.py.
No plain Mask R-CNN was released for this size: model.cascade=false makes one, ours.
"""

from .base.cascade import cascade
from .base.convnext_3x import config

config.arch = "convnext_small"
config.output_dir = "outputs/convnext_small_3x"
cascade(config)
config.features.drop_path_rate = 0.6
config.optimizer.lr = 2e-4
config.layer_decay = 0.7
