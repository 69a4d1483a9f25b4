# SparK ConvNeXt-L. The SparK repository transfers to COCO alone: nothing of this is published.
# Settings are those of the supervised ConvNeXt-B at 512 px: ours.
_base_ = ["convnext_base_upernet_512.py"]

arch = "convnext_large"
precision = "fp32"  # as the supervised ConvNeXt-L at 640 px
