# ConvNeXt V1, supervised ImageNet-22K weights: ConvNeXt semantic_segmentation/configs/convnext/
# upernet_convnext_large_640_160k_ade20k_ss.py
_base_ = ["_base_/upernet.py", "_base_/ade20k.py"]

arch = "convnext_large"
lr = 1e-4
layer_decay = 0.9
decay_rule = "convnext_stage_wise"  # num_layers 12 there, as counted here
drop_path = 0.4
head_channels = 512
pixels = "imagenet"
amp = False
crop_size = (640, 640)
scale = (2560, 640)
stride = (426, 426)
