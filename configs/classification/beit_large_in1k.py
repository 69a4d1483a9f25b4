"""BEiT-L/16: beit_base_in1k.py, shorter, with its own rate.

Table 13 has stochastic depth 0.1, get_started_for_image_classification.md 0.2: the code's is taken.
"""

from dataclasses import replace

from transfer.classification.config import load_config

base = load_config("beit_base_in1k.py")
finetuning = replace(
    base,
    arch="beit_large_patch16_224",  # modeling_finetune.py
    drop_path_rate=0.2,  # get_started; Table 13: 0.1
    optimizer=replace(
        base.optimizer,
        base_lr=1e-3,  # get_started; Table 13: chosen among 2e-3, 3e-3, 4e-3, 5e-3
        layer_decay=0.75,  # Table 13, get_started
    ),
    schedule=replace(
        base.schedule,
        epochs=50,  # Table 13, get_started
        warmup_epochs=5,  # Table 13, get_started
        final=1e-6 / 1e-3,  # run_class_finetuning.py, --min_lr 1e-6
    ),
)
