# SparK ResNet-50. The SparK repository transfers to COCO alone: nothing of this is published.
# Optimizer settings follow its detection config (downstream_d2), the rest the other UperNet runs.
_base_ = ["_base_/upernet.py", "_base_/ade20k.py"]

arch = "resnet50"
lr = 2.5e-4  # downstream_d2 (COCO); for ADE20K not stated in the paper; ours
weight_decay = 1e-4  # downstream_d2 (COCO); for ADE20K not stated in the paper; ours
layer_decay = 0.6  # downstream_d2/lr_decay.py (COCO); for ADE20K not stated in the paper; ours
layer_decay_rule = "resnet"
drop_path_rate = 0.0  # downstream_d2
head_channels = 512  # mmsegmentation configs/_base_/models/upernet_r50.py
pixels = "imagenet"
precision = "fp32"  # downstream_d2: SOLVER.AMP off
