"""BEiT-B/16 fine-tuned on ImageNet-1K, pretrained on it or on ImageNet-22K (arXiv 2106.08254).

Table 13 of the paper and get_started_for_image_classification.md; sources are files of
microsoft/unilm `beit/` at 768a3c8. Table 13 has repeated augmentation, the code samples every image
once: the code is followed. Pixel statistics are the encoder file's, as the pretraining had them.
"""

from pretrain.config import Schedule
from transfer.classification.config import FineTuning, Input, Optimizer, Targets

finetuning = FineTuning(
    dataset="imagenet_1k",
    arch="beit_base_patch16_224",  # modeling_finetune.py
    images=Input(
        input_size=224,  # Table 13
        auto_augment="rand-m9-mstd0.5-inc1",  # Table 13; run_class_finetuning.py, --aa
        random_erasing=0.25,  # Table 13
        crop_pct=224 / 256,  # datasets.py
    ),
    targets=Targets(
        label_smoothing=0.1,  # Table 13
        mixup=0.8,  # Table 13, get_started
        cutmix=1.0,  # Table 13, get_started
    ),
    pool="mean",  # run_class_finetuning.py, --use_mean_pooling
    drop_path_rate=0.1,  # Table 13, get_started
    head_std=2e-5,  # modeling_finetune.py: 0.02 times --init_scale 0.001
    batch_size=1024,  # Table 13, get_started
    repeats=1,  # run_class_finetuning.py; Table 13: repeated augmentation
    optimizer=Optimizer(
        optimizer="adamw",  # Table 13
        base_lr=4e-3,  # get_started; Table 13: chosen among 2e-3, 3e-3, 4e-3, 5e-3
        lr_batch_size=0,  # absolute: run_class_finetuning.py has no batch-size rule
        weight_decay=0.05,  # Table 13
        layer_decay=0.65,  # Table 13, get_started
        layer_decay_rule="vit",  # optim_factory.py
    ),
    schedule=Schedule(
        epochs=100,  # Table 13, get_started
        warmup_epochs=20,  # Table 13, get_started
        final=1e-6 / 4e-3,  # run_class_finetuning.py, --min_lr 1e-6
        curve="beit",  # utils.py cosine_scheduler: the warm-up's last step has the peak
    ),
    precision="fp16",  # get_started: deepspeed or torch.amp
)
