"""BEiT for the embedded benchmark; all other settings: shapes_beit_vit.py.

For `make_shapes.py --for benchmark`, whose images are 256 px a side: crops show them as they are.
"""

from dataclasses import replace

from pretrain.config import RunSettings, TokenizerSettings, load_recipe

base = load_recipe("shapes_beit_vit.py")
recipe = replace(
    base,
    method=replace(
        base.method,
        tokenizer_training=TokenizerSettings(
            tokenizer_steps=600,  # ours
        ),
    ),
    augmentation=replace(
        base.augmentation,
        crop_scale=(0.1, 0.4),  # 0.25 keeps the scale of 256 px; ours
    ),
    optimizer=replace(
        base.optimizer,
        base_lr=1e-3,  # ours
    ),
    schedule=replace(
        base.schedule,
        steps=4000,  # ours
        warmup_steps=200,  # ours
        final=1e-2,  # of the peak, so 1e-5: run_beit_pretraining.py, --min_lr
    ),
    run=RunSettings(checkpoint_steps=500, workers=1),
)
