"""SparK ResNet-50 fine-tuned on ImageNet-1K (arXiv 2301.03580).

Sources are files of keyu-tian/SparK `downstream_imagenet/` at a63e386. Its accuracy is the best of
all epochs, of the weights or their average, whichever is higher; here it is that of the average
after the last one.
"""

from pretrain.config import Schedule
from transfer.classification.config import FineTuning, Input, Optimizer, Targets

finetuning = FineTuning(
    dataset="imagenet_1k",
    arch="resnet50",  # models/__init__.py: timm's
    images=Input(
        input_size=224,  # arg.py
        auto_augment="trivial",  # data.py: below 384 px TrivialAugmentWide in AutoAugment's place
        random_erasing=0.25,  # data.py
        crop_pct=0.95,  # data.py
    ),
    targets=Targets(
        loss="binary",  # util.py: with LAMB
        label_smoothing=0.1,  # util.py
        mixup=0.1,  # arg.py
        cutmix=1.0,  # util.py
    ),
    drop_path_rate=0.05,  # arg.py
    ema_decay=0.9999,  # arg.py
    head_std=None,  # timm's ResNet leaves torch's
    batch_norm="SyncBN",  # arg.py, --sbn
    batch_size=2048,  # arg.py
    optimizer=Optimizer(
        optimizer="lamb",  # arg.py; util.py: always_adapt, no bias correction, norms up to 1e7
        base_lr=2e-3,  # arg.py
        lr_batch_size=256,  # arg.py: lr = base_lr * batch / 256
        eps=1e-6,  # timm's Lamb
        weight_decay=0.02,  # arg.py
        layer_decay=0.7,  # arg.py, lr_scale
        layer_decay_rule="resnet_classification",  # models/__init__.py
    ),
    schedule=Schedule(
        epochs=300,  # arg.py
        warmup_epochs=5,  # arg.py
        warmup_start=0.005,  # lr_decay.py
        final=0.001,  # lr_decay.py
        curve="spark",  # lr_decay.py: the cosine ends on the last step
        last_step="fill",  # data.py keeps the last, smaller step of an epoch; here it is filled up
    ),
    precision="fp32",  # main.py: no autocast
)
