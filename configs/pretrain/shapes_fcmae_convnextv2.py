"""FCMAE on a ConvNeXt V2 smaller than Atto, 128 px: the demo's, about a minute of one CPU core.

Masks, loss and decoder are the paper's; sizes, batch and length are chosen for the embedded
dataset (ours).
"""

from pretrain.config import Augmentation, FcmaeSettings, Optimizer, Recipe, RunSettings, Schedule

recipe = Recipe(
    arch="convnextv2_atto",
    arch_args={"depths": [2, 2, 4, 2], "dims": [32, 64, 128, 256]},  # Atto: 40 to 320; ours
    image_size=128,  # 4 x 4 patches; ours
    method=FcmaeSettings(
        mask_ratio=0.6,  # paper Table 8
        decoder_width=256,  # 512 in models/fcmae.py; ours
    ),
    batch_size=16,  # ours
    augmentation=Augmentation(
        crop_scale=(0.2, 1.0),  # main_pretrain.py
    ),
    optimizer=Optimizer(
        base_lr=1.5e-3,  # ours
        lr_batch_size=0,  # absolute; ours
        betas=(0.9, 0.95),  # main_pretrain.py
        weight_decay=0.05,  # main_pretrain.py
        clip_norm=3.0,  # the paper has none; small batches; ours
        always_decay=(".grn.",),  # as the release does, by the shape of its tensors
    ),
    schedule=Schedule(
        steps=220,  # ours
        warmup_steps=30,  # ours
        curve="mae",  # main_pretrain.py
    ),
    run=RunSettings(checkpoint_steps=100, workers=1),
)
