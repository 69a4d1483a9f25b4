"""The arithmetic of a run: fp32, bf16, or fp16 with a scaled loss."""

from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision, Precision

PrecisionName = Literal["auto", "fp32", "bf16", "fp16"]


def resolve_precision(precision: str, cuda: bool) -> str:
    """Return "fp32", "bf16" or "fp16" for a setting that may also be "auto".

    "auto" is bf16 on a GPU that computes it, fp16 on one that only emulates it (before Ampere),
    and fp32 on the CPU. Raises ValueError for fp16 on the CPU.
    """
    if precision == "fp16" and not cuda:
        raise ValueError("precision=fp16 needs a CUDA device: give precision=fp32 or bf16")
    if precision != "auto":
        return precision
    if not cuda:
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def precision_plugin(precision: str, device_type: str) -> Precision:
    """Return Fabric's plugin for "fp32", "bf16" or "fp16" on a "cuda" or "cpu" device."""
    if precision == "fp32":
        return Precision()
    return Autocast("bf16-mixed" if precision == "bf16" else "16-mixed", device_type)


def precision_of(fabric: Fabric) -> str:
    """Return "fp32", "bf16" or "fp16": what `fabric` was launched with."""
    return {"bf16-mixed": "bf16", "16-mixed": "fp16"}.get(
        fabric.strategy.precision.precision, "fp32"
    )


class Autocast(MixedPrecision):
    """Autocast that leaves the inputs in float32, as torch's own does.

    Fabric rounds them to half precision; but the pixels that are to be predicted are inputs too.
    """

    def convert_input(self, data: Any) -> Any:
        """Return `data` as it is."""
        return data


def use_tensor_cores() -> None:
    """Compute float32 products in TF32, as the official codes do on GPUs that have it."""
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
