"""SparK ConvNeXt-L at 384 px: another mask ratio, batch and learning rate than at 224 px."""

from dataclasses import replace

from pretrain.config import load_recipe

base = load_recipe("spark_convnext_large.py")
recipe = replace(
    base,
    image_size=384,  # pretrain/README.md
    method=replace(
        base.method,
        mask_ratio=0.75,  # pretrain/README.md; 36 of 144 patches visible
    ),
    batch_size=2048,  # pretrain/README.md
    optimizer=replace(
        base.optimizer,
        base_lr=4e-4,  # pretrain/README.md: 4e-4 * 2048 / 256 = 3.2e-3
    ),
)
