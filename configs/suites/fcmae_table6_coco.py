"""ConvNeXt V2 paper, Table 6: Mask R-CNN on COCO from FCMAE and from supervised ConvNeXt V1.

python tools/run_suite.py configs/suites/fcmae_table6_coco.py --out outputs/fcmae_table6 --dry-run

ConvNeXt V2 trained with labels alone was not released: its rows have no cell.
"""

from transfer.suites.suite import Cell, Released, Suite

GPUS = 8


def config(size: str) -> str:
    return f"configs/detection/convnextv2_{size}_3x.py"


suite = Suite(
    cells=(
        *(
            Cell(config(s), Released(f"fcmae_convnextv2_{s}"), gpus=GPUS)
            for s in ("base", "large", "huge")
        ),
        *(
            Cell(config(s), Released(f"convnext_{s}_1k_224"), (f"arch=convnext_{s}",), gpus=GPUS)
            for s in ("base", "large")
        ),
    ),
    published=("ConvNeXt V2 paper (arXiv 2301.00808) Table 6",),
)
