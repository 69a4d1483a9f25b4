"""BEiT-B/16 on ImageNet-22K: beit_base_in1k.py with the README's length and pixel statistics."""

from dataclasses import replace

from pretrain.config import load_recipe

base = load_recipe("beit_base_in1k.py")
recipe = replace(
    base,
    augmentation=replace(
        base.augmentation,
        pixel_mean=(0.5, 0.5, 0.5),  # datasets.py: the default without the ImageNet flag
        pixel_std=(0.5, 0.5, 0.5),  # datasets.py: the default without the ImageNet flag
    ),
    schedule=replace(
        base.schedule,
        epochs=150,  # README.md's example
        warmup_steps=10_000,  # README.md's example
    ),
)
