# MAE ViT-B: mmsegmentation configs/mae/mae-base_upernet_8xb2-amp-160k_ade20k-512x512.py
_base_ = ["_base_/upernet.py", "_base_/ade20k.py"]

arch = "vit_base_patch16_224"
image_size = 512  # position embeddings are resized to it as the weights load
head_channels = 768
drop_path = 0.1
lr = 1e-4
layer_decay = 0.65
decay_rule = "vit"
pixels = "imagenet"
amp = True
test_ratios = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
