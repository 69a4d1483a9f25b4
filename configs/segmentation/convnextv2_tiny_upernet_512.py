# ConvNeXt V2-T: arXiv 2301.00808 A.4
_base_ = ["_base_/convnextv2.py"]

arch = "convnextv2_tiny"
