"""The authors' classifiers: the logits, from a file of their layout."""

import tempfile
from pathlib import Path
from typing import Any

import torch

from transfer.classification.config import FineTuning
from transfer.classification.released import build_released, released_config
from transfer.weights.classifiers import ReleasedClassifier, read_classifier

from .cases import Case, Check, Checks

PERFORMANCE = "Max (Last) Acc: 80.60 (80.60 o 50000)    EMA: 80.50 (80.50 o 50000)"


def content_of(case: Case) -> dict[str, Any]:
    """Return what the authors' code saves around the case's weights."""
    if case.spec["classifier"] != "spark":
        return {"model": case.weights}
    told = {"args": "Args()", "arch": "resnet50", "epoch": 299, "performance_desc": PERFORMANCE}
    states = {"module": case.weights, "ema": case.weights, "optimizer": {}}
    return {**told, **states, "is_pretrain": False}


def read(case: Case, path: Path) -> ReleasedClassifier:
    """Write the case's weights to `path` as the authors' code does, and read the file."""
    torch.save(content_of(case), path)
    return read_classifier(path)


def settings(file: ReleasedClassifier, side: int) -> FineTuning:
    """Return the authors' test at the size of the case's images."""
    return released_config(file, None, [f"input_size={side}", "workers=0", "device=cpu"])


def build(case: Case, path: Path) -> Any:
    """Return the network that this suite makes of the case."""
    file, side = read(case, path), case.tensors["images"].shape[-1]
    classes = [str(i) for i in range(len(file.weight))]
    return build_released(file, settings(file, side), classes).model


def check_classifier(case: Case) -> list[Check]:
    """Check the logits."""
    with tempfile.TemporaryDirectory() as folder:
        model = build(case, Path(folder) / "released.pth").to(case.device, case.dtype)
    checks = Checks(case)
    checks.inputs("images")
    with torch.no_grad():
        checks.compare("logits", model.encoder(case.numbers("images")))
    return checks.finish()
