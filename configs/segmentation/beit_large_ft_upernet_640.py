# BEiT-L, fine-tuned on labels before: unilm upernet_beit_large_24_640_slide_160k_ade20k_pt2ft.py
_base_ = ["_base_/beit.py"]

arch = "beit_large_patch16_224"
image_size = 640  # relative position tables are resized to it as the weights load
head_channels = 1024
drop_path_rate = 0.2
lr = 2e-5
layer_decay = 0.95
crop_size = (640, 640)
scale = (2560, 640)
stride = (426, 426)
accumulation_steps = (
    2  # there: 320k iterations of 8 images, update_interval 2, warm-up 3000 iterations
)
