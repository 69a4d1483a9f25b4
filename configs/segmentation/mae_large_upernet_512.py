# MAE ViT-L: arXiv 2111.06377 A.4 says UperNet after BEiT's code; no config is released
_base_ = ["_base_/upernet.py", "_base_/ade20k.py"]

arch = "vit_large_patch16_224"
image_size = 512  # position embeddings are resized to it as the weights load
head_channels = 1024
drop_path = 0.2  # not stated in the paper; ours
lr = 1e-4  # not stated in the paper; ours
layer_decay = 0.8  # not stated in the paper; ours
decay_rule = "vit"
pixels = "imagenet"
amp = True
test_ratios = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
