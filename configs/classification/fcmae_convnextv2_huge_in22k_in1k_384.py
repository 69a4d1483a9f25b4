"""FCMAE ConvNeXt V2-H on ImageNet-1K at 384 px, from its ImageNet-22K stage (Table 13).

What differs from fcmae_convnextv2_base_in22k_in1k_384.py.
"""

from dataclasses import replace

from transfer.classification.config import load_config

base = load_config("fcmae_convnextv2_base_in22k_in1k_384.py")
finetuning = replace(
    base,
    arch="convnextv2_huge",  # models/convnextv2.py
    drop_path_rate=0.5,  # ours; Table 13: 0.1, 0.2, 0.3, 0.5, by size: not known
    optimizer=replace(
        base.optimizer,
        layer_decay=0.85,  # Table 13
    ),
)
