# ConvNeXt V2-L: arXiv 2301.00808 A.4
_base_ = ["_base_/convnextv2.py"]

arch = "convnextv2_large"
precision = "fp32"  # not stated in the paper; ours: V1-L is trained without fp16
