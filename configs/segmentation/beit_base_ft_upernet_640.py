# BEiT-B, fine-tuned on labels before: unilm upernet_beit_base_12_640_slide_160k_ade20k_pt2ft.py
_base_ = ["_base_/beit.py"]

arch = "beit_base_patch16_224"
image_size = 640  # relative position tables are resized to it as the weights load
head_channels = 768
drop_path_rate = 0.1
lr = 3e-5
layer_decay = 0.9
crop_size = (640, 640)
scale = (2560, 640)
stride = (426, 426)
