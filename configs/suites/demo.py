"""The demo: three methods, and their backbones from scratch, on three tasks: 18 records.

python tools/run_suite.py configs/suites/demo.py --out outputs/demo --jobs 2
"""

from transfer.suites.suite import Cell, Pretrain, Suite

PRETRAININGS = (
    Pretrain("configs/pretrain/shapes_spark_resnet.py"),
    Pretrain("configs/pretrain/shapes_fcmae_convnextv2.py"),
    Pretrain("configs/pretrain/shapes_beit_vit.py"),
)
ACCURACY = ("steps=100", "warmup_steps=10")  # of 300: the whole demo is to take ten minutes
# task -> options of its pretrained cells, and of those from scratch
TASKS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "configs/detection/shapes_mask_rcnn.py": ((), ()),
    "configs/segmentation/shapes_upernet.py": ((), ()),
    "configs/classification/shapes_objects.py": (ACCURACY, ACCURACY),
}

suite = Suite(
    shapes=("--for", "demo"),
    cells=tuple(
        cell
        for task, (options, from_scratch) in TASKS.items()
        for pretrain in PRETRAININGS
        for cell in (
            Cell(task, pretrain, options),
            Cell(task, None, from_scratch, like=pretrain),
        )
    ),
)
