"""Learning rate and layer decay for configs/suites/embedded.py, chosen on images of their own.

python tools/run_suite.py configs/suites/embedded_tuning.py --out outputs/tuning --jobs 2

Training and validation images are drawn with another seed than the benchmark's; the encoders are
the benchmark's (`--set encoders=DIR`). Random and pretrained weights get the same grid: three
learning rates, and layer decay 1 at the middle one. What each arm chose is then tried with three
times the warm-up, and with the next rate where its own is the grid's lowest or highest.
"""

import runpy
from pathlib import Path

from transfer.suites.suite import ROOT, Cell, Suite

# config -> key of the learning rate, and its values
RATES = {
    "configs/segmentation/shapes_zoom_upernet.py": ("lr", ("1.5e-3", "3e-3", "6e-3")),
    "configs/detection/shapes_zoom_mask_rcnn.py": ("optimizer.lr", ("1e-3", "2e-3", "4e-3")),
}
LONGER_WARMUP = {
    "configs/segmentation/shapes_zoom_upernet.py": "warmup_iters=120",
    "configs/detection/shapes_zoom_mask_rcnn.py": "schedule.warmup_steps=90",
}


def suite(encoders: str = "outputs/embedded/pretrain") -> Suite:
    embedded = runpy.run_path(str(ROOT / "configs/suites/embedded.py"))
    return Suite(
        shapes=("--for", "benchmark", "--unlabelled", "1", "--seed", "1"),
        cells=tuple(
            Cell(task, weights, options, like=None if weights else pretraining)
            for (task, pretraining), (pretrained, scratch) in embedded["OPTIONS"].items()
            for weights, chosen in (
                (None, scratch),
                (
                    Path(encoders) / Path(pretraining.config).stem / "encoder.safetensors",
                    pretrained,
                ),
            )
            for options in (*grid(task), *beyond(task, chosen))
        ),
    )


def grid(task: str) -> list[tuple[str, ...]]:
    key, rates = RATES[task]
    return [
        *((f"{key}={rate}", "layer_decay=0.75") for rate in rates),
        (f"{key}={rates[1]}", "layer_decay=1.0"),
    ]


def beyond(task: str, chosen: tuple[str, str]) -> list[tuple[str, ...]]:
    """Return `chosen`, a rate and a layer decay, with more warm-up and past the grid's edge."""
    key, rates = RATES[task]
    rate, layer_decay = chosen[0].removeprefix(f"{key}="), chosen[1]
    found: list[tuple[str, ...]] = [(*chosen, LONGER_WARMUP[task])]
    if rate in (rates[0], rates[-1]):
        factor = 2 if rate == rates[-1] else 0.5
        found.append((f"{key}={float(rate) * factor:g}", layer_decay))
    return found
