# ResNet-50 with supervised or random weights at the settings of spark_resnet50_upernet_512.py: the
# baseline to hold SparK against.
_base_ = ["spark_resnet50_upernet_512.py"]

arch = "resnet50"
