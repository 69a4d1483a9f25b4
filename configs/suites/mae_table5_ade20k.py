"""MAE paper, Table 5: UperNet with plain ViTs on ADE20K from MAE, MoCo v3 and BEiT.

python tools/run_suite.py configs/suites/mae_table5_ade20k.py --out outputs/mae_table5 --dry-run

The paper gave each method its own learning rate and layer decay and does not state them. BEiT of
ImageNet-1K is pretrained here (--set data=DIR names the images). Not released, so without a cell:
the supervised ViTs, and MoCo v3 with ViT-L.
"""

from transfer.suites.suite import Cell, Pretrain, Released, Suite

GPUS = 8
MULTI_SCALE = ("tta.on=True",)


def config(name: str) -> str:
    return f"configs/segmentation/{name}_upernet_512.py"


def suite(data: str = "imagenet/train") -> Suite:
    beit = {s: Pretrain(f"configs/pretrain/beit_{s}_in1k.py", gpus=GPUS) for s in ("base", "large")}
    return Suite(
        cells=(
            *(
                Cell(config(f"mae_{s}"), Released(f"mae_vit_{s}"), also_test=MULTI_SCALE, gpus=GPUS)
                for s in ("base", "large")
            ),
            Cell(config("mae_base"), Released("mocov3_vit_base"), gpus=GPUS),
            *(Cell(config(f"beit_{s}_pt"), pretrain, gpus=GPUS) for s, pretrain in beit.items()),
        ),
        pretrain_data=data,
        published=(
            "MAE paper (CVPR 2022) Table 5",
            "open-mmlab/mmsegmentation configs/mae/README.md",
        ),
    )
