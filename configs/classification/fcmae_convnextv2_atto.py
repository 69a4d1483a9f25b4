"""FCMAE ConvNeXt V2-Atto fine-tuned on ImageNet-1K (arXiv 2301.00808, Table 9).

Sources are files of facebookresearch/ConvNeXt-V2 at 2553895. The paper's runs are in JAX on TPUs
(appendix A.2); the code is its PyTorch form.
"""

from pretrain.config import Schedule
from transfer.classification.config import FineTuning, Input, Optimizer, Targets

finetuning = FineTuning(
    dataset="imagenet_1k",
    arch="convnextv2_atto",  # models/convnextv2.py
    images=Input(
        input_size=224,  # Table 14
        auto_augment="rand-m9-mstd0.5-inc1",  # Table 9: RandAugment (9, 0.5)
        random_erasing=0.25,  # Table 9
        crop_pct=224 / 256,  # datasets.py
    ),
    targets=Targets(
        label_smoothing=0.2,  # Table 9
        mixup=0.0,  # Table 9, TRAINING.md
        cutmix=0.0,  # Table 9, TRAINING.md
    ),
    drop_path_rate=0.1,  # Table 9, TRAINING.md
    ema_decay=0.9999,  # Table 9, TRAINING.md
    head_std=2e-5,  # main_finetune.py; Table 9: head init 0.001, of 0.02
    batch_size=1024,  # Table 9, TRAINING.md
    optimizer=Optimizer(
        optimizer="adamw",  # Table 9
        base_lr=2e-4,  # Table 9, TRAINING.md
        lr_batch_size=256,  # main_finetune.py: lr = blr * batch / 256
        weight_decay=0.3,  # Table 9, TRAINING.md
        layer_decay=0.9,  # Table 9, TRAINING.md
        layer_decay_rule="convnext_block_wise",  # TRAINING.md: --layer_decay_type single
    ),
    schedule=Schedule(
        epochs=600,  # Table 9, TRAINING.md
        warmup_epochs=0,  # Table 9, TRAINING.md
        final=1e-6 / 8e-4,  # main_finetune.py, --min_lr 1e-6 of 2e-4 * 1024 / 256
        curve="mae",  # utils.py adjust_learning_rate
    ),
    precision="fp16",  # TRAINING.md, --use_amp; the paper's JAX runs: not stated
)
