"""A quick look at any encoder: it is frozen, a quarter of the schedule, a tenth of the labels.

python tools/run_suite.py configs/suites/proxy.py --out outputs/proxy --set weights=FILE

On COCO and ADE20K only pyramid and heads learn. The images are the same for every encoder, and
those of --set share=0.01 are a part of them. Which of two encoders is better here need not be
better after full training: that has not been measured.
"""

import runpy
from dataclasses import replace

from transfer.suites.suite import ROOT, Suite

QUICK = ("freeze=backbone", "budget=quarter")
SHARE = {"detection": "data.train_share", "segmentation": "train_share"}


def suite(weights: str, share: float = 0.1, seeds: int = 1, gpus: int = 1) -> Suite:
    whole = runpy.run_path(str(ROOT / "configs/suites/own_encoder.py"))["suite"]
    cells = (
        replace(cell, options=(*QUICK, f"{SHARE[cell.task.split('/')[1]]}={share}"))
        for cell in whole(weights, seeds=seeds, gpus=gpus).cells
        if cell.weights is not None  # a frozen encoder of random weights learns nothing
    )
    return Suite(cells=tuple(cells))
