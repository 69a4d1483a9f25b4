"""ConvNeXt-T trained on ImageNet-1K's labels from scratch (arXiv 2201.03545, Table 5).

Sources are files of facebookresearch/ConvNeXt at 048efce; its training code is BEiT's.
"""

from pretrain.config import Schedule
from transfer.classification.config import FineTuning, Input, Optimizer, Targets

finetuning = FineTuning(
    dataset="imagenet_1k",
    weights="none",
    arch="convnext_tiny",  # TRAINING.md; layer scale 1e-6 is timm's default as well
    images=Input(
        input_size=224,  # main.py
        auto_augment="rand-m9-mstd0.5-inc1",  # main.py, --aa
        random_erasing=0.25,  # main.py
        crop_pct=224 / 256,  # datasets.py
    ),
    targets=Targets(
        label_smoothing=0.1,  # main.py
        mixup=0.8,  # main.py
        cutmix=1.0,  # main.py
    ),
    drop_path_rate=0.1,  # TRAINING.md
    ema_decay=0.9999,  # TRAINING.md: --model_ema true; main.py
    head_std=0.02,  # models/convnext.py, head_init_scale 1
    batch_size=4096,  # TRAINING.md
    optimizer=Optimizer(
        optimizer="adamw",  # main.py
        base_lr=4e-3,  # TRAINING.md
        lr_batch_size=0,  # absolute: main.py has no batch-size rule
        weight_decay=0.05,  # main.py
    ),
    schedule=Schedule(
        epochs=300,  # main.py
        warmup_epochs=20,  # main.py
        final=1e-6 / 4e-3,  # main.py, --min_lr 1e-6
        curve="beit",  # utils.py cosine_scheduler, BEiT's
    ),
    precision="fp32",  # main.py, --use_amp false
)
