"""BEiT-L/16 on ImageNet-1K after ImageNet-22K's labels: get_started_for_image_classification.md.

What differs from beit_base_in22k_in1k_224.py.
"""

from dataclasses import replace

from transfer.classification.config import load_config

base = load_config("beit_base_in22k_in1k_224.py")
finetuning = replace(
    base,
    arch="beit_large_patch16_224",  # modeling_finetune.py
    drop_path_rate=0.4,  # get_started
    optimizer=replace(
        base.optimizer,
        layer_decay=0.9,  # get_started
    ),
)
