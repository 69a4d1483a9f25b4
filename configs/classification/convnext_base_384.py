"""ConvNeXt-B at 384 px from its own weights at 224 px (facebookresearch/ConvNeXt TRAINING.md)."""

from dataclasses import replace

from transfer.classification.config import load_config

base = load_config("convnext_base.py")
finetuning = replace(
    base,
    weights="",  # those of convnext_base.py, or convnext_base_1k_224_ema.pth
    images=replace(
        base.images,
        input_size=384,  # TRAINING.md
        squash=True,  # datasets.py: from 384 px on whole images are warped
    ),
    targets=replace(
        base.targets,
        mixup=0.0,  # TRAINING.md
        cutmix=0.0,  # TRAINING.md
    ),
    drop_path_rate=0.8,  # TRAINING.md
    ema_decay=None,  # TRAINING.md: not asked for
    head_std=2e-5,  # TRAINING.md: --head_init_scale 0.001, of 0.02
    batch_size=512,  # TRAINING.md
    optimizer=replace(
        base.optimizer,
        base_lr=5e-5,  # TRAINING.md
        weight_decay=1e-8,  # TRAINING.md
        layer_decay=0.7,  # TRAINING.md
        layer_decay_rule="convnext_layer_wise",  # optim_factory.py: 12 layers
    ),
    schedule=replace(
        base.schedule,
        epochs=30,  # TRAINING.md
        warmup_epochs=0,  # TRAINING.md
        final=1e-6 / 5e-5,  # main.py, --min_lr 1e-6
    ),
)
