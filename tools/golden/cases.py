"""Reading a case, recognising its kind, measuring errors."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

TOLERANCE = 1e-4  # of a quantity's largest absolute value


@dataclass(frozen=True)
class Case:
    """A golden folder: what ran, the recorded tensors, the weights by official name."""

    path: Path
    spec: dict[str, Any]
    tensors: dict[str, Tensor]
    weights: dict[str, Tensor]
    sparse: str = "patches"
    dtype: torch.dtype = torch.float64
    device: str = "cpu"

    @property
    def tolerance(self) -> float:
        """Tolerance of case.json, at most TOLERANCE."""
        stated = re.search(r"\d+(\.\d+)?e-\d+", str(self.spec.get("tolerance", "")))
        return min(TOLERANCE, float(stated.group())) if stated else TOLERANCE

    def numbers(self, name: str) -> Tensor:
        """Return a recorded tensor in the precision, and on the device, of the recomputation."""
        return self.tensors[name].to(self.device, self.dtype)

    def mask(self, name: str) -> Tensor:
        """Return a recorded mask, bool, on the device of the recomputation."""
        return self.tensors[name].to(self.device).bool()


@dataclass(frozen=True)
class Check:
    """One recorded quantity: the largest error, relative to its largest absolute value."""

    name: str
    error: float
    tolerance: float = TOLERANCE
    note: str = ""

    @property
    def passed(self) -> bool:
        """Return whether the error is within the tolerance; False for NaN."""
        return self.error <= self.tolerance  # False for NaN


@dataclass
class Checks:
    """Collects the checks of a case; every recorded tensor has to be compared or named input."""

    case: Case
    done: list[Check] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def inputs(self, *names: str) -> None:
        """Mark recorded tensors as inputs, which need no comparison."""
        self.used |= set(names)

    def compare(self, name: str, ours: Tensor, note: str = "") -> None:
        """Compare ours with the recorded tensor `name`; integers must be equal."""
        self.used.add(name)
        error = relative_error(ours.detach(), self.case.tensors[name])
        self.done.append(Check(name, error, self.case.tolerance, note))

    def finish(self) -> list[Check]:
        """Return the checks. Raises ValueError if a recorded tensor was never compared."""
        left = sorted(self.case.tensors.keys() - self.used)
        if left:
            raise ValueError(f"{self.case.path}: no check knows what to do with {', '.join(left)}")
        return self.done


def relative_error(ours: Tensor, recorded: Tensor) -> float:
    """Return the largest difference over the largest recorded value; integers: 0 or inf."""
    if ours.numel() != recorded.numel():
        return float("inf")
    ours = ours.reshape(recorded.shape).to(recorded.device)
    if not recorded.is_floating_point():
        return 0.0 if torch.equal(ours.to(recorded.dtype), recorded) else float("inf")
    ours, recorded = ours.double(), recorded.double()
    return float((ours - recorded).abs().max() / recorded.abs().max().clamp(min=1e-30))


def read_case(
    path: Path,
    *,
    sparse: str = "patches",
    dtype: torch.dtype = torch.float64,
    device: str = "cpu",
) -> Case:
    """Return the case in `path`; ValueError if the folder is none."""
    for name in ("case.json", "case.safetensors"):
        if not (path / name).is_file():
            raise ValueError(f"{path} is not a golden case: it has no {name}")
    weights = path / "weights.safetensors"
    return Case(
        path=path,
        spec=json.loads((path / "case.json").read_text()),
        tensors=load_file(path / "case.safetensors"),
        weights=load_file(weights) if weights.is_file() else {},
        sparse=sparse,
        dtype=dtype,
        device=device,
    )


def kind_of(case: Case) -> str:
    """Return the kind of a case: classifier, spark, beit, segmentor, detector, ...

    Raises ValueError for a case of another kind.
    """
    weights, tensors = case.weights.keys(), case.tensors.keys()
    marks: dict[str, bool] = {
        "classifier": "classifier" in case.spec,
        "spark": any(n.startswith("sparse_encoder.") for n in weights),
        "beit": "patch_embed.proj.weight" in weights,
        "dalle": "blocks.input.w" in weights,
        "fcmae": "mask_token" in weights and "images" in tensors,
        "minkowski": any(n.endswith(".kernel") for n in weights),
        "segmentor": "decode_head.conv_seg.weight" in weights,
        "detector": "detector" in case.spec,
        "lamb": "max_grad_norm" in case.spec,
        "resize": any(n.startswith("resized:") for n in tensors),
    }
    for kind, found in marks.items():
        if found:
            return kind
    raise ValueError(f"{case.path}: cannot tell which kind of golden case this is")
