# MAE ViT-L: arXiv 2111.06377 A.4 says UperNet after BEiT's code, with relative positions that start
# at zero, for 100 epochs; no config is released. Ours: MMSegmentation's for ViT-B, 160k steps.
_base_ = ["_base_/mae.py"]

arch = "vit_large_patch16_224"
head_channels = 1024
drop_path_rate = 0.2  # not stated in the paper; ours
lr = 1e-4  # not stated in the paper; ours
layer_decay = 0.8  # not stated in the paper; ours
