"""FCMAE ConvNeXt V2-N on ImageNet-1K at 224 px, from its ImageNet-22K stage (Table 13).

What differs from fcmae_convnextv2_tiny_in22k_in1k_224.py.
"""

from dataclasses import replace

from transfer.classification.config import load_config

finetuning = replace(
    load_config("fcmae_convnextv2_tiny_in22k_in1k_224.py"),
    arch="convnextv2_nano",  # models/convnextv2.py
    drop_path_rate=0.1,  # ours; Table 13: 0.1, 0.2, 0.3, 0.5, by size: not known
)
