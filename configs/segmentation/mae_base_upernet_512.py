# MAE ViT-B: mmsegmentation configs/mae/mae-base_upernet_8xb2-amp-160k_ade20k-512x512.py
_base_ = ["_base_/mae.py"]

arch = "vit_base_patch16_224"
head_channels = 768
drop_path_rate = 0.1
lr = 1e-4
layer_decay = 0.65
