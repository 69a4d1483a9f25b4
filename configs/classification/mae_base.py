"""MAE ViT-B/16 fine-tuned on ImageNet-1K: facebookresearch/mae FINETUNE.md at efb2a80.

The paper's runs are in TensorFlow on TPUs and read the class token; the code reads the mean.
"""

from pretrain.config import Schedule
from transfer.classification.config import FineTuning, Input, Optimizer, Targets

finetuning = FineTuning(
    dataset="imagenet_1k",
    arch="vit_base_patch16_224",  # models_vit.py
    images=Input(
        input_size=224,  # main_finetune.py
        auto_augment="rand-m9-mstd0.5-inc1",  # main_finetune.py, --aa
        random_erasing=0.25,  # FINETUNE.md
        crop_pct=224 / 256,  # util/datasets.py
    ),
    targets=Targets(
        label_smoothing=0.1,  # main_finetune.py
        mixup=0.8,  # FINETUNE.md
        cutmix=1.0,  # FINETUNE.md
    ),
    pool="mean",  # main_finetune.py, --global_pool; the paper: class token
    drop_path_rate=0.1,  # FINETUNE.md
    head_std=2e-5,  # main_finetune.py
    batch_size=1024,  # FINETUNE.md
    optimizer=Optimizer(
        optimizer="adamw",  # main_finetune.py
        base_lr=5e-4,  # FINETUNE.md
        lr_batch_size=256,  # FINETUNE.md: lr = blr * batch / 256
        weight_decay=0.05,  # FINETUNE.md
        layer_decay=0.65,  # FINETUNE.md
        layer_decay_rule="vit",  # util/lr_decay.py
    ),
    schedule=Schedule(
        epochs=100,  # FINETUNE.md
        warmup_epochs=5,  # main_finetune.py
        final=1e-6 / 2e-3,  # main_finetune.py, --min_lr 1e-6 of 5e-4 * 1024 / 256
        curve="mae",  # util/lr_sched.py
    ),
    precision="fp16",  # engine_finetune.py: torch.cuda.amp
)
