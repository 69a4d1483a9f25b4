# A linear classifier on the four frozen stages of a ConvNeXt-B: _base_/linear.py
_base_ = ["_base_/linear.py"]

arch = "convnext_base"
