"""MAE paper, Table 4: Mask R-CNN with plain ViTs on COCO from MAE, MoCo v3 and BEiT.

python tools/run_suite.py configs/suites/mae_table4_coco.py --out outputs/mae_table4 --dry-run

The configs are ViTDet's (pyramid and schedule are not the paper's). BEiT of ImageNet-1K is
pretrained here (--set data=DIR names the images). Not released, so without a cell: the supervised
ViTs, and MoCo v3 with ViT-L.
"""

from transfer.suites.suite import Cell, Pretrain, Released, Suite

GPUS = 8


def config(name: str) -> str:
    return f"configs/detection/{name}_100ep.py"


def suite(data: str = "imagenet/train") -> Suite:
    beit = {s: Pretrain(f"configs/pretrain/beit_{s}_in1k.py", gpus=GPUS) for s in ("base", "large")}
    return Suite(
        cells=(
            Cell(config("vit_base"), Released("mae_vit_base"), gpus=GPUS),
            Cell(config("vit_large"), Released("mae_vit_large"), gpus=GPUS),
            Cell(config("vit_base"), Released("mocov3_vit_base"), gpus=GPUS),
            *(Cell(config(f"beit_{s}"), pretrain, gpus=GPUS) for s, pretrain in beit.items()),
        ),
        pretrain_data=data,
        published=(
            "MAE paper (CVPR 2022) Table 4",
            "facebookresearch/detectron2 projects/ViTDet/README.md",
        ),
    )
