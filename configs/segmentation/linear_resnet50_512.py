# A linear classifier on the four frozen stages of a ResNet-50: _base_/linear.py
_base_ = ["_base_/linear.py"]

arch = "resnet50"
