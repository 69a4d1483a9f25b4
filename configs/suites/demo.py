"""The demo: three methods, and their backbones from scratch, on two tasks: 12 records.

python tools/run_suite.py configs/suites/demo.py --out outputs/demo --jobs 2
"""

from transfer.suites.suite import Cell, Suite

RECIPES = (
    "configs/pretrain/shapes_spark_resnet.py",
    "configs/pretrain/shapes_fcmae_convnextv2.py",
    "configs/pretrain/shapes_beit_vit.py",
)
TASKS = {
    "configs/detection/shapes_mask_rcnn.py": (),
    "configs/segmentation/shapes_upernet.py": (),
}

suite = Suite(
    shapes=("--for", "demo"),
    cells=tuple(
        cell
        for task, options in TASKS.items()
        for recipe in RECIPES
        for cell in (
            Cell(weights=recipe, task=task, options=options),
            Cell(weights="none", like=recipe, task=task, options=options),
        )
    ),
)
