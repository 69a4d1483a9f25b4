"""ConvNeXt-B on ImageNet-1K after ImageNet-22K (facebookresearch/ConvNeXt TRAINING.md).

What differs from convnext_base_384.py, which fine-tunes as well.
"""

from dataclasses import replace

from transfer.classification.config import load_config

base = load_config("convnext_base_384.py")
finetuning = replace(
    base,
    weights="",  # those of convnext_base_in22k.py, or convnext_base_22k_224.pth
    images=replace(
        base.images,
        input_size=224,  # TRAINING.md
        squash=False,  # datasets.py: from 384 px on whole images are warped
    ),
    drop_path_rate=0.2,  # TRAINING.md
    optimizer=replace(
        base.optimizer,
        layer_decay=0.8,  # TRAINING.md
    ),
)
