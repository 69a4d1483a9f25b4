"""BEiT paper, Table 3: SETR-PUP on ADE20K from BEiT and DINO, both on ImageNet-1K.

python tools/run_suite.py configs/suites/beit_table3_ade20k.py --out outputs/beit_table3 --dry-run

BEiT-B of ImageNet-1K is pretrained here (--set data=DIR names the images) and fine-tuned on its
labels (--set labelled=DIR, with train/ and val/): no link to the authors' files is known. Their
supervised ViT-B was not released and has no cell.
"""

from transfer.suites.suite import Cell, FineTune, Pretrain, Released, Suite

GPUS = 8
TASK = "configs/segmentation/beit_base_pt_setr_pup_512.py"
BEIT = Pretrain("configs/pretrain/beit_base_in1k.py", gpus=GPUS)
INTERMEDIATE = FineTune("configs/classification/beit_base_in1k.py", BEIT, gpus=GPUS)


def suite(data: str = "imagenet/train", labelled: str = "imagenet") -> Suite:
    return Suite(
        cells=(
            Cell(TASK, BEIT, gpus=GPUS),
            Cell(TASK, INTERMEDIATE, gpus=GPUS),
            Cell(TASK, Released("dino_vitbase16"), ("arch=vit_base_patch16_224",), gpus=GPUS),
        ),
        pretrain_data=data,
        labelled_data=labelled,
        published=("BEiT paper (ICLR 2022 / arXiv 2106.08254v2) Table 3",),
    )
