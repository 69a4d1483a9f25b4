# ConvNeXt V2-H: arXiv 2301.00808 A.4
_base_ = ["_base_/convnextv2.py"]

arch = "convnextv2_huge"
precision = "fp32"  # not stated in the paper; ours: as L
