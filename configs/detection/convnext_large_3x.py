"""ConvNeXt-L (V1) baseline, Cascade Mask R-CNN 3x.

Source: facebookresearch/ConvNeXt object_detection/configs/convnext/
cascade_mask_rcnn_convnext_large_*_3x_coco_in22k.py, made for IN-22k weights.
No plain Mask R-CNN was released for this size: model.cascade=false makes one, ours.
"""

from .base.cascade import cascade
from .base.convnext_3x import config

config.arch = "convnext_large"
config.output_dir = "outputs/convnext_large_3x"
cascade(config)
config.features.drop_path_rate = 0.7
config.optimizer.lr = 1e-4
config.layer_decay = 0.7
config.train.precision = "fp32"
