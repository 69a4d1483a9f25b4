# ConvNeXt V1, supervised ImageNet-1K weights: upernet_convnext_base_512_160k_ade20k_ss.py
_base_ = ["_base_/convnext.py"]

arch = "convnext_base"
