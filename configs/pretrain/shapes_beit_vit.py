"""BEiT on a small ViT with relative position bias, 128 px: the demo's, a minute of one CPU core.

Masks, loss and encoder form are the paper's; sizes, batch and length are chosen for the embedded
dataset (ours). The tokenizer is trained first, on the same images.
"""

from pretrain.config import (
    Augmentation,
    BeitSettings,
    Optimizer,
    Recipe,
    RunSettings,
    Schedule,
    TokenizerSettings,
)

recipe = Recipe(
    arch="beit_base_patch16_224",
    # ViT-B has 768, 12, 12; layer scale 0.1 as Table 12 has it for ViT-B; ours
    arch_args={"embed_dim": 192, "depth": 6, "num_heads": 3, "init_values": 0.1},
    image_size=128,  # 8 x 8 patches; ours
    drop_path_rate=0.0,  # Table 12: 0.1, for 800 epochs; ours
    method=BeitSettings(
        masked_patches=75,  # of 14 x 14, here 24 of 64; get_started.md
        smallest_block=16,  # of 14 x 14, here 5 of 64; run_beit_pretraining.py
        tokenizer="",  # trained first; ours
        tokenizer_training=TokenizerSettings(
            tokenizer_steps=300,  # ours
        ),
    ),
    batch_size=16,  # ours
    augmentation=Augmentation(
        color_jitter=0.4,  # Table 12
        crop_scale=(0.08, 1.0),  # transforms.py
    ),
    optimizer=Optimizer(
        base_lr=1.5e-3,  # Table 12
        lr_batch_size=0,  # absolute: run_beit_pretraining.py has no batch-size rule
        betas=(0.9, 0.999),  # Table 12
        weight_decay=0.05,  # Table 12
        clip_norm=3.0,  # Table 12
        never_decay=("pos_embed", "cls_token"),  # optim_factory.py
    ),
    schedule=Schedule(
        steps=160,  # ours
        warmup_steps=20,  # ours
        final=1e-5 / 1.5e-3,  # run_beit_pretraining.py, --min_lr 1e-5
        curve="beit",  # utils.py cosine_scheduler
    ),
    run=RunSettings(checkpoint_steps=100, workers=1),
)
