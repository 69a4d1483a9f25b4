"""SparK's released encoders on COCO, beside supervised weights and training from scratch.

python tools/run_suite.py configs/suites/spark_coco.py --out outputs/spark_coco --dry-run

Of the paper's own COCO table no figure is known to us; the one row is Papers with Code's.
"""

from transfer.suites.suite import Cell, Released, Suite

GPUS = 8
RESNETS = (50, 101, 152)
CONVNEXTS = ("small", "base", "large")


def resnet(depth: int) -> str:
    return f"configs/detection/spark_resnet{depth}_1x.py"


def convnext(size: str) -> str:
    return f"configs/detection/spark_convnext_{size}_3x.py"


suite = Suite(
    cells=(
        *(Cell(resnet(d), Released(f"spark_resnet{d}"), gpus=GPUS) for d in (*RESNETS, 200)),
        *(Cell(resnet(d), Released(f"torchvision_resnet{d}"), gpus=GPUS) for d in RESNETS),
        # without the layer decay of fine-tuning: the stem must learn as well
        Cell(resnet(50), None, ("layer_decay=1.0",), gpus=GPUS),
        *(Cell(convnext(s), Released(f"spark_convnext_{s}"), gpus=GPUS) for s in CONVNEXTS),
        *(Cell(convnext(s), Released(f"convnext_{s}_1k_224"), gpus=GPUS) for s in CONVNEXTS),
    ),
    published=(
        "Papers with Code, results of 'Designing BERT for Convolutional Networks' "
        "(Instance Segmentation on COCO 2017 val)",
    ),
)
