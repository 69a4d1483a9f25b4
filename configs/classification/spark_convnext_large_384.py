"""SparK ConvNeXt-L at 384 px, pretrained at 384 px as well."""

from dataclasses import replace

from transfer.classification.config import load_config

base = load_config("spark_convnext_large.py")
finetuning = replace(
    base,
    images=replace(
        base.images,
        input_size=384,  # arg.py, convnext_large_384
        auto_augment="v0",  # data.py: from 384 px on AutoAugment stays
        squash=True,  # data.py: Resize((384, 384))
    ),
    ema_decay=0.99995,  # arg.py
    batch_size=1024,  # arg.py
    optimizer=replace(
        base.optimizer,
        base_lr=6e-5,  # arg.py
        weight_decay=0.01,  # arg.py
    ),
    schedule=replace(
        base.schedule,
        warmup_epochs=20,  # arg.py
    ),
)
