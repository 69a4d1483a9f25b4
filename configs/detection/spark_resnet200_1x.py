"""SparK ResNet-200, Mask R-CNN 1x: ResNet-50's settings; a config of its own was not released."""

from .base.spark_resnet import config

config.arch = "resnet200"
config.output_dir = "outputs/spark_resnet200_1x"
