# ConvNeXt V2-H after ImageNet-22K fine-tuning at 640 px: the 57.0 of Table 7 (multi-scale). That
# checkpoint was never released (ConvNeXt-V2 issue 72).
_base_ = ["convnextv2_huge_upernet_512.py"]

crop_size = (640, 640)
scale = (2560, 640)
stride = (426, 426)
