# ConvNeXt V2-B: arXiv 2301.00808 A.4
_base_ = ["_base_/convnextv2.py"]

arch = "convnextv2_base"
