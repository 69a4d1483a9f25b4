"""Any labelled images from any encoder: a start for one's own data, not a published setting.

All settings are ours but those that say otherwise. Few images: fewer steps, a lower ema_decay.
"""

from pretrain.config import Schedule
from transfer.classification.config import FineTuning, Input, Optimizer, Targets

finetuning = FineTuning(
    dataset="custom",  # name in tables
    images=Input(
        input_size=224,  # the pretrained encoders'
    ),
    targets=Targets(
        label_smoothing=0.1,  # all five codes' default
        mixup=0.8,  # MAE, BEiT, FCMAE
        cutmix=1.0,  # MAE, BEiT, FCMAE
    ),
    drop_path_rate=0.1,
    batch_size=64,
    optimizer=Optimizer(
        base_lr=1e-3,
        lr_batch_size=0,  # absolute
        layer_decay=0.75,
    ),
    schedule=Schedule(
        epochs=50,
        warmup_epochs=5,
    ),
)
