"""SparK ResNet-50, 1600 epochs of ImageNet-1K at 224 px (arXiv 2301.03580).

Sources are files of keyu-tian/SparK `pretrain/` at a63e386. Paper and code agree on these.
"""

from pretrain.config import Augmentation, Optimizer, Recipe, Schedule, SparkSettings

recipe = Recipe(
    arch="resnet50",  # models/__init__.py: timm's
    image_size=224,  # utils/arg_util.py
    drop_path_rate=0.05,  # models/__init__.py, pretrain_default_model_kwargs
    method=SparkSettings(
        mask_ratio=0.6,  # paper 4.1; utils/arg_util.py; 20 of 49 patches visible by rounding
        decoder_width=768,  # decoder.py
    ),
    batch_size=4096,  # utils/arg_util.py; README: over all GPUs
    augmentation=Augmentation(
        crop_scale=(0.67, 1.0),  # utils/imagenet.py
        flip=0.5,  # utils/imagenet.py
    ),
    optimizer=Optimizer(
        optimizer="lamb",  # main.py; timm's Lamb computes the same
        base_lr=2e-4,  # utils/arg_util.py: 2e-4 * 4096 / 256 = 3.2e-3
        lr_batch_size=256,  # utils/arg_util.py
        betas=(0.9, 0.95),  # main.py: 0.95 for ResNets, 0.999 for ConvNeXts
        eps=1e-6,  # utils/lamb.py
        weight_decay=0.04,  # utils/arg_util.py
        weight_decay_end=0.2,  # utils/arg_util.py, utils/lr_control.py
        clip_norm=5.0,  # utils/arg_util.py; inside LAMB
        never_decay=("cls_token", "pos_embed", "mask_token", "gamma"),  # main.py
    ),
    schedule=Schedule(
        epochs=1600,  # paper 4.1; utils/arg_util.py
        warmup_epochs=40,  # utils/arg_util.py
        warmup_start=0.005,  # utils/lr_control.py
        final=0.001,  # utils/lr_control.py
        curve="spark",  # utils/lr_control.py: the cosine ends on the last step
        last_step="fill",  # main.py, sampler.py: 313 steps of 4096 for 1,281,167 images
    ),
    precision="fp32",  # main.py: no autocast
)
