# ConvNeXt V2 (arXiv 2301.00808 A.4) never released its segmentation configs: the paper gives
# 160k steps, batch 16, and sweeps without saying what each size took.
# Its weights are FCMAE pretraining *followed by* supervised ImageNet-1K fine-tuning (A.4).
_base_ = ["upernet.py", "ade20k.py"]

lr = 1e-4  # swept over {1, 2, 3}e-4 (A.4); the choice is not stated in the paper; ours: V1's
layer_decay = 0.9  # swept over {0.8, 0.9} (A.4); not stated in the paper; ours: V1's
layer_decay_rule = "convnext_stage_wise"  # not stated in the paper; ours: V1's
drop_path_rate = 0.4  # swept over {0.1, 0.2, 0.3, 0.4} (A.4); not stated in the paper; ours
head_channels = 512  # not stated in the paper; ours: V1's
pixels = "imagenet"
precision = "fp16"  # not stated in the paper; ours: V1's
tta = dict(
    ratios=(0.75, 0.875, 1.0, 1.125, 1.25),  # A.4
    mode="whole",  # not stated in the paper; ours: V1's
)
