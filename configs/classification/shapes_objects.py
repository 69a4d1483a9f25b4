"""The embedded dataset's objects, cut out, nine classes: from any of the demo's encoders.

All settings are ours. The data: tools/make_shapes.py --out DIR, then --data DIR. From scratch:
weights=none arch=NAME arch_args={...}. With steps=600 a ResNet-18 of half width reached a top-1 of
57 % (1,325 objects to train on, 703 to test, one seed, from scratch and from 400 steps of SparK).
"""

from pretrain.config import Schedule
from transfer.classification.config import FineTuning, Input, Optimizer, RunSettings, Targets

finetuning = FineTuning(
    dataset="shapes",
    images=Input(
        input_size=64,
        crop_scale=(0.6, 1.0),
        auto_augment="",
        random_erasing=0.0,
        crop_pct=1.0,
    ),
    targets=Targets(label_smoothing=0.0),
    batch_size=32,
    optimizer=Optimizer(base_lr=2e-3, lr_batch_size=0),
    schedule=Schedule(steps=300, warmup_steps=20),
    precision="fp32",
    run=RunSettings(workers=0),
)
