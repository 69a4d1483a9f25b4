# What the ConvNeXt V1 runs share: ConvNeXt semantic_segmentation/configs/convnext/
# upernet_convnext_*_160k_ade20k_ss.py; *_ms.py differ from them in the test alone.
_base_ = ["upernet.py", "ade20k.py"]

lr = 1e-4
layer_decay = 0.9
layer_decay_rule = "convnext_stage_wise"  # num_layers 6 for T, 12 for the others; counted alike
drop_path_rate = 0.4
head_channels = 512
pixels = "imagenet"
precision = "fp16"  # use_fp16=True
tta = dict(mode="whole")  # *_ms.py with --aug-test: no test_cfg of their own, the base has "whole"
