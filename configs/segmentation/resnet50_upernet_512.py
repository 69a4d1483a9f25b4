# ResNet-50 baseline, supervised ImageNet weights: mmsegmentation configs/upernet/
# upernet_r50_4xb4-160k_ade20k-512x512.py (there ResNet-V1c, whose stem has three convolutions).
_base_ = ["_base_/upernet.py", "_base_/ade20k.py"]

arch = "resnet50"
head_channels = 512
lr = 0.01
weight_decay = 5e-4
no_weight_decay = "nothing"  # there weight decay counts for every parameter
layer_decay = 1.0
pixels = "imagenet"
test_mode = "whole"
precision = "fp32"
optim_wrapper = dict(
    optimizer=dict(
        _delete_=True, type="SGD", lr="${lr}", momentum=0.9, weight_decay="${weight_decay}"
    )
)
warmup_iters = 0
param_scheduler = [  # schedule_160k.py
    dict(
        type="WarmupPolyLR",
        power=0.9,
        min_lr=1e-4,
        warmup="${warmup_passes}",
        end="${forward_passes}",
    )
]
