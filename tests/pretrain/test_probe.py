"""A probe during a pretraining: its figures are in the log, the weights are as without it."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pretrain.config import Recipe
from pretrain.files.encoder_file import read_encoder
from pretrain.files.training_state import read_state
from pretrain.probe import PROBED, Probe
from pretrain.run import folder
from pretrain.run.log import TIMED
from pretrain.train import train


def log_lines(out: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (out / folder.LOG).read_text().splitlines())
    return [{k: v for k, v in line.items() if k not in TIMED} for line in lines]


def careless(path: Path) -> dict[str, float]:
    """Measure as anybody may: with seeds and draws of its own."""
    _, identity = read_encoder(path)
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    return {"seen": float(identity.steps)}


@pytest.mark.parametrize("kind", ["fcmae_recipe", "spark_recipe"])
def test_weights_are_those_of_a_run_without_it_to_the_bit(
    kind: str, photos: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """FCMAE draws stochastic depth; SparK has BatchNorm, whose statistics must not move."""
    recipe: Recipe = request.getfixturevalue(kind)
    short = replace(recipe, schedule=replace(recipe.schedule, steps=7, warmup_steps=2))
    train(short, data=photos, out=tmp_path / "without")
    train(short, data=photos, out=tmp_path / "with", probe=Probe(1, careless))
    states = [read_state(tmp_path / o / folder.STATE, "pretraining") for o in ("without", "with")]
    for name, tensor in states[0]["model"].items():
        assert torch.equal(tensor, states[1]["model"][name]), name
    plain, probed = log_lines(tmp_path / "without"), log_lines(tmp_path / "with")
    assert [line.pop("seen", None) for line in probed] == [None, 3.0, 6.0, None]
    assert probed == plain
    assert not (tmp_path / "with" / PROBED).exists()


def test_a_resumed_run_says_what_was_measured_before(
    fcmae_recipe: Recipe, photos: Path, tmp_path: Path, break_off: Callable[..., None]
) -> None:
    """Measured after step 3, saved there, and said with step 6, by another process."""
    quick = replace(fcmae_recipe.run, log_steps=6, checkpoint_steps=3)
    recipe = replace(fcmae_recipe, run=quick)
    break_off(at=3)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, data=photos, out=tmp_path, probe=Probe(1, careless))
    break_off(at=99)
    train(recipe, data=photos, out=tmp_path, probe=Probe(1, careless), resume=True)
    assert [line.get("seen") for line in log_lines(tmp_path)] == [3.0]


def test_what_cannot_be_measured_does_not_end_the_training(
    fcmae_recipe: Recipe, photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(path: Path) -> dict[str, float]:
        raise ValueError(f"no k-NN of {path.name}")

    every_two = replace(fcmae_recipe.run, encoder_epochs=2)
    train(replace(fcmae_recipe, run=every_two), data=photos, out=tmp_path, probe=Probe(1, broken))
    assert "the probe failed, the training goes on: no k-NN of probed.safetensors" in caplog.text
    assert (tmp_path / folder.ENCODER).is_file()
    assert not (tmp_path / folder.EPOCH_ENCODER.format(1)).exists()
