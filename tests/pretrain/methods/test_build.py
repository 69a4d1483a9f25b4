"""Which way masked convolutions are computed where the recipe leaves it open."""

import logging
from dataclasses import replace

import pytest
import torch

from pretrain.config import Recipe, SparkSettings
from pretrain.methods import build_method
from pretrain.methods.build import sparse_path
from pretrain.sparse.dense import DenseConv2d
from pretrain.sparse.patches import PatchConv2d


@pytest.mark.parametrize(
    ("setting", "device", "cuda", "path"),
    [
        ("auto", "auto", False, "patches"),
        ("auto", "auto", True, "dense"),
        ("auto", "cpu", True, "patches"),
        ("patches", "cuda", True, "patches"),
        ("dense", "cpu", False, "dense"),
    ],
)
def test_the_path_of_a_device(
    setting: str,
    device: str,
    cuda: bool,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    with caplog.at_level(logging.INFO):
        assert sparse_path(setting, device) == path
    assert len(caplog.records) == (setting == "auto" and path == "dense")


def test_a_method_is_built_for_the_recipes_device(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(
        arch="resnet18",
        arch_args={"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]},
        method=SparkSettings(decoder_width=32),
        image_size=64,
    )
    assert recipe.method == replace(recipe.method, sparse="auto")
    for cuda, layer in ((False, PatchConv2d), (True, DenseConv2d)):
        monkeypatch.setattr("torch.cuda.is_available", lambda cuda=cuda: cuda)
        convolution = build_method(recipe).encoder.conv1
        assert type(convolution) is layer
        channels_last = convolution.weight.is_contiguous(memory_format=torch.channels_last)
        assert channels_last == cuda
