# SparK ConvNeXt-B. The SparK repository transfers to COCO alone: nothing of this is published.
# Settings are those of the supervised ConvNeXt (convnext_base_upernet_512.py): ours.
_base_ = ["convnext_base_upernet_512.py"]

arch = "convnext_base"
