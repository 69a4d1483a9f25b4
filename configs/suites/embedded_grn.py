"""FCMAE on ConvNeXt V1, to stand beside the ConvNeXt V2 of embedded.py.

python tools/run_suite.py configs/suites/embedded_grn.py --out outputs/embedded --jobs 2

With the --out of embedded.py its data and its encoders are not made again. Learning rate and layer
decay are those that were found for ConvNeXt V2; they were not searched for V1.
"""

import runpy

from transfer.suites.suite import ROOT, Cell, Control, Pretrain, Suite

V1 = Pretrain("configs/pretrain/shapes_fcmae_convnextv1_long.py")


def suite(seeds: int = 5) -> Suite:
    embedded = runpy.run_path(str(ROOT / "configs/suites/embedded.py"))
    task = embedded["SEGMENTATION"]
    options, from_scratch = embedded["OPTIONS"][task, embedded["FCMAE"]]
    every = tuple(range(seeds))
    return Suite(
        shapes=("--for", "benchmark"),
        cells=(
            Cell(task, V1, options, every),
            Cell(task, Control(V1), options, every),
            Cell(task, None, from_scratch, every, like=V1),
        ),
    )
