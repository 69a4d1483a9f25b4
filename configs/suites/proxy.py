"""A quick look at any weights file: frozen encoder, a quarter of the schedule, COCO and ADE20K.

python tools/run_suite.py configs/suites/proxy.py --out outputs/proxy --set weights=FILE

Only pyramid and heads learn. A tenth of the labels is not a setting of the tools: name files of
your own that hold a tenth: --set train_json=FILE (COCO's form) and --set train_images=FOLDER (in
ADEChallengeData2016/images, its labels in the folder of that name under annotations). Which of two
encoders is better here need not be better after full training: that has not been measured.
"""

import runpy
from dataclasses import replace

from transfer.suites.suite import ROOT, Suite

QUICK = ("freeze=backbone", "budget=quarter")


def suite(
    weights: str,
    train_json: str | None = None,
    train_images: str | None = None,
    seeds: int = 1,
    gpus: int = 1,
) -> Suite:
    whole = runpy.run_path(str(ROOT / "configs/suites/own_encoder.py"))["suite"]
    labels = {
        "detection": () if train_json is None else (f"data.train_json={train_json}",),
        "segmentation": ()
        if train_images is None
        else (f"train_images=images/{train_images}", f"train_labels=annotations/{train_images}"),
    }
    cells = (
        replace(cell, options=(*QUICK, *labels[cell.task.split("/")[1]]))
        for cell in whole(weights, seeds=seeds, gpus=gpus).cells
        if cell.weights is not None  # a frozen encoder of random weights learns nothing
    )
    return Suite(cells=tuple(cells))
