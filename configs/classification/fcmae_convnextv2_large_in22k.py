"""FCMAE ConvNeXt V2-L on ImageNet-22K's labels (Table 12): the stage before ImageNet-1K.

No command of the code: what the table leaves open is fcmae_convnextv2_large.py's. There is no
validation split: the run ends in its encoder file.
"""

from dataclasses import replace

from transfer.classification.config import load_config

base = load_config("fcmae_convnextv2_large.py")
finetuning = replace(
    base,
    dataset="imagenet_22k",
    targets=replace(
        base.targets,
        label_smoothing=0.1,  # Table 12
        mixup=0.8,  # Table 12
        cutmix=1.0,  # Table 12
    ),
    drop_path_rate=0.1,  # Table 12
    ema_decay=None,  # Table 12
    batch_size=4096,  # Table 12
    optimizer=replace(
        base.optimizer,
        base_lr=2.5e-4,  # Table 12; as a base rate for 256 images, as Tables 9 to 11
        weight_decay=0.05,  # Table 12
        layer_decay=0.8,  # Table 12
    ),
    schedule=replace(
        base.schedule,
        epochs=90,  # Table 12
        warmup_epochs=5,  # Table 12
        final=1e-6 / 4e-3,  # main_finetune.py, --min_lr 1e-6 of 2.5e-4 * 4096 / 256
    ),
    evaluate=False,  # ours: the images have no validation split
)
