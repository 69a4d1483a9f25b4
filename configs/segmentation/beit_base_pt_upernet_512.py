# BEiT-B, pretrained only: unilm upernet_beit_base_12_512_slide_160k_ade20k_pt.py
_base_ = ["_base_/beit.py"]

arch = "beit_base_patch16_224"
image_size = 512  # relative position tables are resized to it as the weights load
head_channels = 768
drop_path_rate = 0.1
lr = 7e-4
layer_decay = 0.65
