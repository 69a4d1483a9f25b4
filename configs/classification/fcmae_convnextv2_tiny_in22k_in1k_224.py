"""FCMAE ConvNeXt V2-T on ImageNet-1K at 224 px, from its ImageNet-22K stage (Table 13).

What differs from fcmae_convnextv2_base_in22k_in1k_224.py.
"""

from dataclasses import replace

from transfer.classification.config import load_config

base = load_config("fcmae_convnextv2_base_in22k_in1k_224.py")
finetuning = replace(
    base,
    arch="convnextv2_tiny",  # models/convnextv2.py
    drop_path_rate=0.2,  # ours; Table 13: 0.1, 0.2, 0.3, 0.5, by size: not known
    optimizer=replace(
        base.optimizer,
        layer_decay=0.9,  # Table 13
        layer_decay_rule="convnext_block_wise",  # as fcmae_convnextv2_tiny.py
    ),
    schedule=replace(
        base.schedule,
        epochs=90,  # Table 13
    ),
)
