"""SparK ResNet-50, Mask R-CNN 1x: the transfer that SparK released.

The same config is the baseline: `weights=none` is scratch, a supervised ResNet-50 file is the
supervised initialisation, in the same protocol.
"""

from .base.spark_resnet import config

config.arch = "resnet50"
config.output_dir = "outputs/spark_resnet50_1x"
