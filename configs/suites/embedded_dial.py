"""The embedded benchmark's dials: gain against the length of pretraining, and against labels.

python tools/run_suite.py configs/suites/embedded_dial.py --out outputs/embedded --jobs 2

UperNet only, three seeds. With the --out of embedded.py its encoders and runs are not made again.
tools/show_gains.py draws the curves.
"""

import runpy
from dataclasses import replace

from transfer.suites.suite import ROOT, Cell, Control, Suite

LENGTHS = (250, 1000)  # steps of pretraining; the recipes' own are the end of the curve
SHARES = {30: "train_share=0.1", 100: "train_share=0.3333"}  # of 300 labelled images


def suite(seeds: int = 3, controls: bool = True) -> Suite:
    """Return the cells; `--set controls=False` leaves the shuffled weights out."""
    embedded = runpy.run_path(str(ROOT / "configs/suites/embedded.py"))
    task = embedded["SEGMENTATION"]
    cells = []
    for pretrain in embedded["PRETRAININGS"]:
        options, from_scratch = embedded["OPTIONS"][task, pretrain]
        for share in ((), *((share,) for share in SHARES.values())):
            cells += [
                Cell(task, pretrain, (*options, *share)),
                Cell(task, None, (*from_scratch, *share), like=pretrain),
                Cell(task, Control(pretrain), (*options, *share), like=pretrain),
            ]
        for steps in LENGTHS:
            words = ("--steps", str(steps), "--warmup-steps", str(min(200, steps // 5)))
            shorter = replace(pretrain, options=words)
            cells += [
                Cell(task, shorter, options),
                Cell(task, Control(shorter), options, like=pretrain),
            ]
    kept = (cell for cell in cells if controls or not isinstance(cell.weights, Control))
    every = tuple(range(seeds))
    return Suite(
        shapes=("--for", "benchmark"), cells=tuple(replace(cell, seeds=every) for cell in kept)
    )
