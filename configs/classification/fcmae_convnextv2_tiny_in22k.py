"""FCMAE ConvNeXt V2-T on ImageNet-22K's labels (Table 12): the stage before ImageNet-1K.

What differs from fcmae_convnextv2_base_in22k.py.
"""

from dataclasses import replace

from transfer.classification.config import load_config

base = load_config("fcmae_convnextv2_base_in22k.py")
finetuning = replace(
    base,
    arch="convnextv2_tiny",  # models/convnextv2.py
    drop_path_rate=0.0,  # Table 12
    optimizer=replace(
        base.optimizer,
        layer_decay=0.9,  # Table 12
        layer_decay_rule="convnext_block_wise",  # as fcmae_convnextv2_tiny.py
    ),
)
