# BEiT-B, pretrained only, 640 px: not published; ours, the 512 px settings
_base_ = ["_base_/beit.py"]

arch = "beit_base_patch16_224"
image_size = 640  # relative position tables are resized to it as the weights load
head_channels = 768
drop_path_rate = 0.1
lr = 7e-4
layer_decay = 0.65
crop_size = (640, 640)
scale = (2560, 640)
stride = (426, 426)
