# What the MAE runs share: mmsegmentation configs/mae/
# mae-base_upernet_8xb2-amp-160k_ade20k-512x512.py, of which MMSegmentation 0.x made the figures
# (upernet_mae-base_fp16_8x2_512x512_160k_ade20k.py).
_base_ = ["upernet.py", "ade20k.py"]

image_size = 512  # position parameters are resized to it as the weights load
layer_decay_rule = "vit"
pixels = "imagenet"
precision = "fp16"  # fp16=dict(loss_scale="dynamic")
# The weights have neither: both are added for the transfer, as there
relative_position = True  # mmseg MAEAttention: a table per block, zeros at first
layer_scale = 1.0  # init_values
tta = dict(resize="at_least_crop")  # ..._ms.py: min_size=512, sliding window
