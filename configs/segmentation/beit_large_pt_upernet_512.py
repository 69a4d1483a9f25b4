# BEiT-L, pretrained only, 512 px: not published
_base_ = ["_base_/beit.py"]

arch = "beit_large_patch16_224"
image_size = 512  # relative position tables are resized to it as the weights load
head_channels = 1024
drop_path_rate = 0.2  # not stated in the paper; ours
lr = 2e-4  # not stated in the paper; ours
layer_decay = 0.8  # not stated in the paper; ours
