"""The embedded dataset's objects, cut out, nine classes: from any of the demo's encoders.

All settings are ours. The data: tools/make_shapes.py --out DIR, then --data DIR. From scratch:
weights=none arch=NAME arch_args={...} layer_decay=1.
"""

from pretrain.config import Schedule
from transfer.classification.config import FineTuning, Input, Optimizer, RunSettings, Targets

finetuning = FineTuning(
    dataset="shapes",
    images=Input(
        input_size=64,
        crop_scale=(0.5, 1.0),
        auto_augment="",
        random_erasing=0.0,
        crop_pct=1.0,
    ),
    targets=Targets(label_smoothing=0.0),
    batch_size=32,
    optimizer=Optimizer(base_lr=1e-3, lr_batch_size=0, layer_decay=0.75),
    schedule=Schedule(steps=200, warmup_steps=20),
    precision="fp32",
    run=RunSettings(workers=0),
)
