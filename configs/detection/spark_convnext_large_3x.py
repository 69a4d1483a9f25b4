"""SparK ConvNeXt-L, Mask R-CNN 3x: not released; ConvNeXt-B's settings.

Source: keyu-tian/SparK downstream_mmdet/configs/convnext_spark/mask_rcnn_convnext_base_*.py, which
names what it changes in ConvNeXt's own recipe.
"""

from .base.convnext_3x import config

config.arch = "convnext_large"
config.output_dir = "outputs/spark_convnext_large_3x"
config.features.drop_path_rate = 0.5  # not stated in the paper; ours: as ConvNeXt-B
config.optimizer.lr = 2e-4
config.layer_decay = 0.65
config.schedule.gamma = 0.2
config.train.precision = "fp32"
