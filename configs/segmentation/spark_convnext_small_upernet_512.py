# SparK ConvNeXt-S. The SparK repository transfers to COCO alone: nothing of this is published.
# Settings are those of the supervised ConvNeXt (convnext_small_upernet_512.py): ours.
_base_ = ["convnext_small_upernet_512.py"]

arch = "convnext_small"
