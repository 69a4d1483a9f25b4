"""ConvNeXt V2 paper, Table 7: UperNet on ADE20K, tested at several scales.

python tools/run_suite.py configs/suites/fcmae_table7_ade20k.py --out outputs/fcmae_table7 --dry-run

The paper's weights are FCMAE followed by labels (A.4). Not released, so without a cell: ConvNeXt V2
trained with labels alone, and V2-H with ImageNet-22K labels that saw no ImageNet-1K labels after.
"""

from transfer.suites.suite import Cell, Released, Suite

GPUS = 8
MULTI_SCALE = ("tta.on=True",)
AT_512 = ("crop_size=(512,512)", "scale=(2048,512)", "stride=(341,341)")  # V1-L has a 640 px config


def cell(config: str, weights: str, options: tuple[str, ...] = ()) -> Cell:
    task = f"configs/segmentation/{config}.py"
    return Cell(task, Released(weights), options, also_test=MULTI_SCALE, gpus=GPUS)


suite = Suite(
    cells=(
        *(
            cell(f"convnextv2_{size}_upernet_512", f"convnextv2_{size}_1k")
            for size in ("base", "large", "huge")
        ),
        cell("convnext_base_upernet_512", "convnext_base_1k_224"),
        cell("convnext_large_22k_upernet_640", "convnext_large_1k_224", AT_512),
    ),
    published=("ConvNeXt V2 paper (arXiv 2301.00808) Table 7",),
)
