# BEiT-L, fine-tuned on labels before: unilm upernet_beit_large_24_512_slide_160k_ade20k_pt2ft.py
_base_ = ["_base_/beit.py"]

arch = "beit_large_patch16_224"
image_size = 512  # relative position tables are resized to it as the weights load
head_channels = 1024
drop_path_rate = 0.2
lr = 2e-5
layer_decay = 0.95
