"""The embedded benchmark: three methods against their scratch twins and controls, on two tasks.

python tools/run_suite.py configs/suites/embedded.py --out outputs/embedded --jobs 2
"""

from transfer.suites.suite import Cell, Pretrain, Suite

PRETRAININGS = (
    Pretrain("configs/pretrain/shapes_spark_resnet_long.py"),
    Pretrain("configs/pretrain/shapes_fcmae_convnextv2_long.py"),
    Pretrain("configs/pretrain/shapes_beit_vit_long.py"),
)
SEGMENTATION = "configs/segmentation/shapes_zoom_upernet.py"

suite = Suite(
    shapes=("--for", "benchmark"),
    cells=tuple(Cell(SEGMENTATION, pretrain) for pretrain in PRETRAININGS),
)
