"""ConvNeXt-B trained on ImageNet-22K's labels from scratch (facebookresearch/ConvNeXt TRAINING.md).

There is no validation split (--disable_eval): the run ends in its encoder file.
"""

from dataclasses import replace

from transfer.classification.config import load_config

base = load_config("convnext_base.py")
finetuning = replace(
    base,
    dataset="imagenet_22k",
    drop_path_rate=0.1,  # TRAINING.md
    ema_decay=None,  # TRAINING.md: not asked for
    batch_size=4096,  # TRAINING.md: 16 x 8 x 32
    schedule=replace(
        base.schedule,
        epochs=90,  # TRAINING.md
        warmup_epochs=5,  # TRAINING.md
    ),
    evaluate=False,  # TRAINING.md, --disable_eval true
)
