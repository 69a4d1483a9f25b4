"""FCMAE ConvNeXt V2-B on ImageNet-1K at 384 px, from its ImageNet-22K stage (Table 13).

No command of the code: what the table leaves open is fcmae_convnextv2_base_in22k.py's.
"""

from dataclasses import replace

from transfer.classification.config import load_config

base = load_config("fcmae_convnextv2_base_in22k.py")
finetuning = replace(
    base,
    dataset="imagenet_1k",
    images=replace(
        base.images,
        input_size=384,  # Table 15
        squash=True,  # datasets.py: from 384 px on whole images are warped
    ),
    targets=replace(
        base.targets,
        mixup=0.0,  # Table 13
        cutmix=0.0,  # Table 13
    ),
    drop_path_rate=0.2,  # ours; Table 13: 0.1, 0.2, 0.3, 0.5, by size: not known
    ema_decay=0.9999,  # not stated by Table 13 as it was read; the released files are averages
    batch_size=512,  # Table 13
    optimizer=replace(
        base.optimizer,
        base_lr=2.5e-5,  # Table 13; as a base rate for 256 images, as Tables 9 to 11
        weight_decay=1e-8,  # Table 13
        layer_decay=0.8,  # Table 13
    ),
    schedule=replace(
        base.schedule,
        epochs=30,  # Table 13
        warmup_epochs=0,  # not known; ours
        final=1e-6 / 5e-5,  # main_finetune.py, --min_lr 1e-6 of 2.5e-5 * 512 / 256
    ),
    evaluate=True,
)
