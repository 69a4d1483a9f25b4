# BEiT-B with SETR-PUP, single-scale: the task layer of the paper's Table 3 (arXiv 2106.08254,
# settings in Table 14); the released code has UperNet instead (unilm issue 443).
_base_ = ["_base_/setr_pup.py", "_base_/ade20k.py"]

arch = "beit_base_patch16_224"
image_size = 512
drop_path_rate = 0.1
lr = 1e-3
layer_decay = 0.65
layer_decay_rule = "vit"
pixels = "imagenet"  # not stated in the paper; ours, as the released UperNet runs
precision = "fp16"  # not stated in the paper; ours: as the released UperNet runs
