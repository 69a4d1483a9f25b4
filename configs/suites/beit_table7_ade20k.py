"""BEiT paper (arXiv v2), Table 7: UperNet on ADE20K from BEiT with ImageNet-22K labels, 640 px.

python tools/run_suite.py configs/suites/beit_table7_ade20k.py --out outputs/beit_table7 --dry-run
"""

from transfer.suites.suite import Cell, Released, Suite

GPUS = 8
MULTI_SCALE = ("tta.on=True",)

suite = Suite(
    cells=tuple(
        Cell(
            f"configs/segmentation/beit_{size}_ft_upernet_640.py",
            Released(f"beit_{size}_pt22k_ft22k"),
            also_test=MULTI_SCALE,
            gpus=GPUS,
        )
        for size in ("base", "large")
    ),
    published=(
        "BEiT arXiv v2 Table 7",
        "microsoft/unilm beit/semantic_segmentation/README.md",
    ),
)
