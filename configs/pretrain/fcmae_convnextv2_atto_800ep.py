"""FCMAE ConvNeXt V2-Atto, 800 epochs of ImageNet-1K at 224 px (arXiv 2301.00808, Table 8).

Sources are files of facebookresearch/ConvNeXt-V2 at 2553895. Where the paper's models (JAX, masked
dense convolutions: appendix A.2) and the PyTorch release differ, the choice is named:
GRN is per image over visible positions, as in JAX (the release's MinkowskiGRN mixes the batch).
"""

from pretrain.config import Augmentation, FcmaeSettings, Optimizer, Recipe, Schedule

recipe = Recipe(
    arch="convnextv2_atto",  # models/fcmae.py
    image_size=224,  # main_pretrain.py
    drop_path_rate=0.0,  # models/fcmae.py passes none
    method=FcmaeSettings(
        mask_ratio=0.6,  # Table 8; 19 of 49 patches visible by truncation, models/fcmae.py
        decoder_width=512,  # models/fcmae.py
        decoder_depth=1,  # models/fcmae.py
        # as the encoder's own; the release then draws convolutions again with std 1 by oversight:
        # --weight-init release
        weight_init="std_0.02",
    ),
    batch_size=4096,  # Table 8
    augmentation=Augmentation(
        crop_scale=(0.2, 1.0),  # main_pretrain.py
        flip=0.5,  # main_pretrain.py
    ),
    optimizer=Optimizer(
        optimizer="adamw",  # Table 8
        base_lr=1.5e-4,  # Table 8, main_pretrain.py: 1.5e-4 * 4096 / 256 = 2.4e-3
        lr_batch_size=256,  # main_pretrain.py
        betas=(0.9, 0.95),  # Table 8
        weight_decay=0.05,  # Table 8
        clip_norm=None,  # engine_pretrain.py
        # release: GRN's gamma and beta have two dimensions and are decayed, as the mask token is;
        # timm's have one, so they are named here
        always_decay=(".grn.",),
    ),
    schedule=Schedule(
        epochs=800,  # Table 8: 800 or 1600; main_pretrain.py
        warmup_epochs=40,  # Table 8
        final=0.0,  # main_pretrain.py, min_lr
        curve="mae",  # utils.py adjust_learning_rate
    ),
    precision="fp32",  # engine_pretrain.py: no autocast
)
