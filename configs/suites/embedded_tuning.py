"""Learning rate and layer decay for configs/suites/embedded.py, chosen on images of their own.

python tools/run_suite.py configs/suites/embedded_tuning.py --out outputs/tuning --jobs 2

Training and validation images are drawn with another seed than the benchmark's; the encoders are
the benchmark's (`--set encoders=DIR`). Random and pretrained weights get the same grid: three
learning rates, and layer decay 1 at the middle one.
"""

import runpy
from pathlib import Path

from transfer.suites.suite import ROOT, Cell, Suite

# config -> key of the learning rate, and its values
RATES = {
    "configs/segmentation/shapes_zoom_upernet.py": ("lr", ("1.5e-3", "3e-3", "6e-3")),
    "configs/detection/shapes_zoom_mask_rcnn.py": ("optimizer.lr", ("1e-3", "2e-3", "4e-3")),
}


def suite(encoders: str = "outputs/embedded/pretrain") -> Suite:
    pretrainings = runpy.run_path(str(ROOT / "configs/suites/embedded.py"))["PRETRAININGS"]
    return Suite(
        shapes=("--for", "benchmark", "--unlabelled", "1", "--seed", "1"),
        cells=tuple(
            Cell(task, weights, options, like=None if weights else pretraining)
            for task, (key, rates) in RATES.items()
            for pretraining in pretrainings
            for weights in (
                None,
                Path(encoders) / Path(pretraining.config).stem / "encoder.safetensors",
            )
            for options in grid(key, rates)
        ),
    )


def grid(key: str, rates: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [
        *((f"{key}={rate}", "layer_decay=0.75") for rate in rates),
        (f"{key}={rates[1]}", "layer_decay=1.0"),
    ]
