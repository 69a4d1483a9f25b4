# What the BEiT runs share: unilm beit/semantic_segmentation/configs/beit/upernet.
# ImageNet's mean and standard deviation, though the weights were pretrained with 0.5 and 0.5.
_base_ = ["upernet.py", "ade20k.py"]

pixels = "imagenet"
layer_decay_rule = "vit"  # mmcv_custom/layer_decay_optimizer_constructor.py
precision = "fp16"  # use_fp16=True (apex O1)
tta = dict(resize="at_least_crop")  # *_ms.py: mmcv_custom SETR_Resize, sliding window
