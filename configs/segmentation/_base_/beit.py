# What the BEiT runs share: unilm beit/semantic_segmentation/configs/beit/upernet.
# ImageNet's mean and standard deviation, though the weights were pretrained with 0.5 and 0.5.
_base_ = ["upernet.py", "ade20k.py"]

pixels = "imagenet"
decay_rule = "vit"  # mmcv_custom/layer_decay_optimizer_constructor.py
amp = True
test_ratios = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # of a multi-scale test, flipped as well
test_resize = "at_least_crop"  # of a multi-scale test: mmcv_custom SETR_Resize
