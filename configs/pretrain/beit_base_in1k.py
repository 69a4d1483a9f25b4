"""BEiT-B/16, 800 epochs of ImageNet-1K at 224 px (arXiv 2106.08254, Table 12).

Sources are files of microsoft/unilm `beit/` at 768a3c8. Algorithm 1 of the paper masks until more
than 40 % are masked; the code, followed here, stops at 75 of 196 or short of it.
"""

from pretrain.config import Augmentation, BeitSettings, Optimizer, Recipe, Schedule

recipe = Recipe(
    arch="beit_base_patch16_224",  # modeling_pretrain.py
    arch_args={"init_values": 0.1},  # layer scale; Table 12, get_started.md
    image_size=224,  # Table 12
    drop_path_rate=0.1,  # Table 12
    method=BeitSettings(
        masked_patches=75,  # get_started.md, --num_mask_patches
        smallest_block=16,  # run_beit_pretraining.py, --min_mask_patches_per_block
        # DALL-E's released encoder (Table 12), as tools/convert_dalle.py writes it
        tokenizer="tokenizers/dalle.safetensors",
    ),
    batch_size=2048,  # Table 12
    augmentation=Augmentation(
        color_jitter=0.4,  # Table 12, datasets.py: always, before the crop
        flip=0.5,  # datasets.py
        crop_scale=(0.08, 1.0),  # transforms.py: one box, 224 bicubic and 112 Lanczos
        pixel_mean=(0.485, 0.456, 0.406),  # get_started.md, --imagenet_default_mean_and_std
        pixel_std=(0.229, 0.224, 0.225),  # get_started.md, --imagenet_default_mean_and_std
    ),
    optimizer=Optimizer(
        optimizer="adamw",  # Table 12
        base_lr=1.5e-3,  # Table 12
        lr_batch_size=0,  # absolute: run_beit_pretraining.py has no batch-size rule
        betas=(0.9, 0.999),  # Table 12
        eps=1e-8,  # Table 12
        weight_decay=0.05,  # Table 12
        clip_norm=3.0,  # Table 12
        never_decay=(
            "pos_embed",
            "cls_token",
        ),  # optim_factory.py: table and mask token are decayed
    ),
    schedule=Schedule(
        epochs=800,  # Table 12: 500k steps
        warmup_epochs=10,  # Table 12
        warmup_start=0.0,  # utils.py cosine_scheduler
        final=1e-5 / 1.5e-3,  # run_beit_pretraining.py, --min_lr 1e-5
        curve="beit",  # utils.py cosine_scheduler: the warm-up's last step has the peak
    ),
    precision="fp16",  # engine_for_pretraining.py: autocast, NativeScaler
)
