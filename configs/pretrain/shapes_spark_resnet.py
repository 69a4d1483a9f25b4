"""SparK on a ResNet-18 of half width, 128 px: the demo's, about a minute of one CPU core.

Masks, loss and decoder are the paper's; sizes, batch and length are chosen for the embedded
dataset (ours).
"""

from pretrain.config import Augmentation, Optimizer, Recipe, RunSettings, Schedule, SparkSettings

recipe = Recipe(
    arch="resnet18",
    arch_args={"channels": [32, 64, 128, 256]},  # half of ResNet-18's; ours
    image_size=128,  # 4 x 4 patches; ours
    method=SparkSettings(
        mask_ratio=0.6,  # paper 4.1
        decoder_width=64,  # 768 in decoder.py; ours
    ),
    batch_size=16,  # ours
    augmentation=Augmentation(
        crop_scale=(0.67, 1.0),  # SparK utils/imagenet.py
    ),
    optimizer=Optimizer(
        optimizer="adamw",  # SparK: LAMB, meant for batches of thousands; ours
        base_lr=1e-3,  # ours
        lr_batch_size=0,  # absolute; ours
        betas=(0.9, 0.95),  # SparK main.py
        weight_decay=0.04,  # SparK utils/arg_util.py
        weight_decay_end=0.2,  # SparK utils/arg_util.py
        clip_norm=5.0,  # SparK utils/arg_util.py
        never_decay=("cls_token", "pos_embed", "mask_token", "gamma"),  # SparK main.py
    ),
    schedule=Schedule(
        steps=180,  # ours
        warmup_steps=25,  # ours
        warmup_start=0.005,  # SparK utils/lr_control.py
        final=0.001,  # SparK utils/lr_control.py
        curve="spark",  # utils/lr_control.py
        last_step="fill",  # main.py, sampler.py
    ),
    run=RunSettings(checkpoint_steps=100, workers=1),
)
