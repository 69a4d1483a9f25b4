"""SparK for the embedded benchmark; all other settings: shapes_spark_resnet.py.

For `make_shapes.py --for benchmark`, whose images are 256 px a side: crops show them as they are.
"""

from dataclasses import replace

from pretrain.config import Augmentation, RunSettings, SparkSettings, load_recipe

base = load_recipe("shapes_spark_resnet.py")
recipe = replace(
    base,
    method=SparkSettings(
        mask_ratio=0.6,  # paper 4.1
        decoder_width=128,  # with 64 the loss flattens early; ours
    ),
    augmentation=Augmentation(
        crop_scale=(0.1, 0.4),  # 0.25 keeps the scale of 256 px; ours
    ),
    optimizer=replace(
        base.optimizer,
        base_lr=3e-3,  # ours
    ),
    schedule=replace(
        base.schedule,
        steps=5500,  # ours
        warmup_steps=200,  # ours
    ),
    run=RunSettings(checkpoint_steps=500, workers=1),
)
