# ConvNeXt V1, supervised ImageNet-22K weights: upernet_convnext_large_640_160k_ade20k_ss.py
_base_ = ["_base_/convnext.py"]

arch = "convnext_large"
precision = "fp32"  # use_fp16=False
crop_size = (640, 640)
scale = (2560, 640)
stride = (426, 426)
