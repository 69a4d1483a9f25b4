"""SparK ConvNeXt-S fine-tuned on ImageNet-1K (arXiv 2301.03580).

Sources are files of keyu-tian/SparK `downstream_imagenet/` at a63e386; which accuracy is reported:
spark_resnet50.py.
"""

from pretrain.config import Schedule
from transfer.classification.config import FineTuning, Input, Optimizer, Targets

finetuning = FineTuning(
    dataset="imagenet_1k",
    arch="convnext_small",  # models/convnext_official.py
    images=Input(
        input_size=224,  # arg.py
        auto_augment="trivial",  # data.py: below 384 px TrivialAugmentWide in AutoAugment's place
        random_erasing=0.25,  # data.py
        crop_pct=0.95,  # data.py
    ),
    targets=Targets(
        loss="cross_entropy",  # util.py: with AdamW
        label_smoothing=0.1,  # util.py
        mixup=0.8,  # arg.py
        cutmix=1.0,  # util.py
    ),
    drop_path_rate=0.3,  # arg.py
    ema_decay=0.9999,  # arg.py
    head_std=0.02,  # models/convnext_official.py, head_init_scale 1
    batch_size=4096,  # arg.py
    repeats=3,  # arg.py, rep_aug
    optimizer=Optimizer(
        optimizer="adamw",  # arg.py, "adam"; util.py: AdamW
        base_lr=2e-4,  # arg.py
        lr_batch_size=256,  # arg.py: lr = base_lr * batch / 256
        weight_decay=0.01,  # arg.py
        layer_decay=0.7,  # arg.py, lr_scale
        layer_decay_rule="convnext_layer_wise",  # models/__init__.py: 12 layers
    ),
    schedule=Schedule(
        epochs=400,  # arg.py
        warmup_epochs=20,  # arg.py
        warmup_start=0.005,  # lr_decay.py
        final=0.001,  # lr_decay.py
        curve="spark",  # lr_decay.py: the cosine ends on the last step
        last_step="fill",  # data.py keeps the last, smaller step of an epoch; here it is filled up
    ),
    precision="fp32",  # main.py: no autocast
)
