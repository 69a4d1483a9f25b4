"""ConvNeXt-T (V1) baseline, Mask R-CNN 3x.

Source: facebookresearch/ConvNeXt object_detection/configs/convnext/
mask_rcnn_convnext_tiny_*_3x_coco_in1k.py.
"""

from .base.convnext_3x import config

config.arch = "convnext_tiny"
config.output_dir = "outputs/convnext_tiny_3x"
config.features.drop_path_rate = 0.4
config.optimizer.lr = 1e-4
config.layer_decay = 0.95
