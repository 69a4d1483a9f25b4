"""FCMAE for the embedded benchmark; all other settings: shapes_fcmae_convnextv2.py.

For `make_shapes.py --for benchmark`, whose images are 256 px a side: crops show them as they are.
"""

from dataclasses import replace

from pretrain.config import Augmentation, RunSettings, load_recipe

base = load_recipe("shapes_fcmae_convnextv2.py")
recipe = replace(
    base,
    augmentation=Augmentation(
        crop_scale=(0.1, 0.4),  # 0.25 keeps the scale of 256 px; ours
    ),
    optimizer=replace(
        base.optimizer,
        base_lr=3e-3,  # ours
    ),
    schedule=replace(
        base.schedule,
        steps=10000,  # the loss still falls at 4,000; ours
        warmup_steps=200,  # ours
    ),
    run=RunSettings(checkpoint_steps=500, workers=1),
)
