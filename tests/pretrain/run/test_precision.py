"""Which arithmetic a run computes in, and how many processes read its data."""

from typing import Any

import pytest
import torch

from pretrain.run import processes
from pretrain.run.precision import Autocast, precision_of, resolve_precision
from pretrain.run.processes import data_workers, launch


@pytest.mark.parametrize(
    ("asked", "cuda", "native_bf16", "expected"),
    [
        ("auto", False, False, "fp32"),
        ("auto", True, True, "bf16"),
        ("auto", True, False, "fp16"),  # V100, T4: bf16 is only emulated
        ("fp32", True, True, "fp32"),
        ("bf16", False, False, "bf16"),
        ("fp16", True, True, "fp16"),
    ],
)
def test_precision(
    asked: str, cuda: bool, native_bf16: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return including_emulation or native_bf16

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert resolve_precision(asked, cuda) == expected


def test_fp16_on_a_cpu_is_refused_before_anything_starts() -> None:
    with pytest.raises(ValueError, match="precision=fp16 needs a CUDA device"):
        launch("cpu", "fp16")


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="torch sees no CUDA device"):
        launch("cuda", "fp32")


def test_autocast_leaves_the_inputs_alone() -> None:
    """The pixels to predict are inputs: in bf16 they would have 8 bits."""
    fabric = launch("cpu", "bf16")
    seen: dict[str, Any] = {}

    class Layer(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            product = super().forward(x)
            seen.update(input=x.dtype, product=product.dtype)
            return product

    model = fabric.setup(Layer(2, 2))
    assert model(torch.rand(1, 2)).dtype == torch.float32
    assert seen == {"input": torch.float32, "product": torch.bfloat16}


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_a_launched_run_knows_its_precision(name: str) -> None:
    assert precision_of(launch("cpu", name)) == name


def test_fp16_has_a_scaled_loss() -> None:
    assert Autocast("16-mixed", "cuda").scaler is not None
    assert Autocast("bf16-mixed", "cuda").scaler is None


@pytest.mark.parametrize(
    ("cores", "local", "device", "expected"),
    [
        (64, 8, "cuda", 7),
        (128, 4, "cuda", 16),
        (2, 1, "cuda", 1),
        (1, 1, "cuda", 1),
        (64, 1, "cpu", 2),
    ],
)
def test_data_processes_follow_the_cores(
    cores: int, local: int, device: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "available_cores", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(local))
    assert data_workers("auto", torch.device(device)) == expected
    assert data_workers(0, torch.device(device)) == 0
