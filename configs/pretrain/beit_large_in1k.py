"""BEiT-L/16 on ImageNet-1K: beit_base_in1k.py with its own layer scale and clipping."""

from dataclasses import replace

from pretrain.config import load_recipe

base = load_recipe("beit_base_in1k.py")
recipe = replace(
    base,
    arch="beit_large_patch16_224",  # modeling_pretrain.py
    arch_args={"init_values": 1e-5},  # layer scale; Table 12
    optimizer=replace(
        base.optimizer,
        clip_norm=1.0,  # Table 12
    ),
)
