"""Training a tokenizer: the loss falls, a stopped run ends bit-identical, errors come first."""

import importlib.util
import json
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pretrain.config import Augmentation, RunSettings, TokenizerSettings
from pretrain.config.tokenizer import FULL, SMALL
from pretrain.data.sources import open_images
from pretrain.run.log import TIMED
from pretrain.run.loop import Loop
from pretrain.run.processes import launch
from pretrain.run.stop import Stopped
from pretrain.tokenizer.training import TokenizerTraining, train_tokenizer
from pretrain.tokenizer.vae import read_tokenizer

ROOT = Path(__file__).parents[3]
TINY = replace(
    SMALL,
    tokenizer_vocab_size=16,
    tokenizer_n_hid=8,
    tokenizer_n_init=8,
    tokenizer_steps=24,
    tokenizer_batch_size=4,
    tokenizer_crop_px=16,
    tokenizer_ema_decay=0.9,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 images of two colours."""
    out = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(12):
        pixels = np.full((48, 48, 3), rng.integers(0, 255, 3), dtype=np.uint8)
        pixels[:, rng.integers(10, 40) :] = rng.integers(0, 255, 3)
        Image.fromarray(pixels).save(out / f"{i}.png")
    return out


def train(folder: Path, out: Path, **options: Any) -> Path:
    fabric = launch("cpu", "fp32")
    settings = options.pop("settings", TINY)
    run = RunSettings(workers=0, **{"log_steps": 20, **options})
    return train_tokenizer(
        fabric,
        open_images(folder),
        settings,
        out,
        image_size=32,
        augmentation=Augmentation(),
        run=run,
    )


def test_loss_falls_and_the_file_says_what_it_is(folder: Path, tmp_path: Path) -> None:
    path = train(folder, tmp_path / "t.safetensors", settings=replace(TINY, tokenizer_steps=80))
    lines = [json.loads(line) for line in (tmp_path / "t/log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [20, 40, 60, 80]
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.1
    assert {"perplexity", "codes_used", "kl", "temperature"} <= set(lines[0])
    assert (tmp_path / "t/reconstructions.png").is_file()
    assert not (tmp_path / "t/state.pt").exists()
    assert read_tokenizer(path).vocab_size == 16
    stamp = path.stat().st_mtime_ns
    assert train(folder, path) == path
    assert path.stat().st_mtime_ns == stamp  # a finished one is left alone


def test_a_stopped_run_ends_bit_identical(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read_tokenizer(train(folder, tmp_path / "whole.safetensors"))
    step = Loop.train_step

    def stop_at_11(self: Loop, number: int, batches: Any) -> None:
        step(self, number, batches)
        if number == 10:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "train_step", stop_at_11)
        with pytest.raises(Stopped, match="143"):
            train(folder, tmp_path / "parts.safetensors")
    assert not (tmp_path / "parts.safetensors").exists()
    parts = read_tokenizer(train(folder, tmp_path / "parts.safetensors"))
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, parts.state_dict()[name]), name
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("whole", "parts")]
    for first, second in zip(*logs, strict=True):
        a, b = json.loads(first), json.loads(second)
        for name in TIMED:
            assert a.pop(name) is not None
            assert b.pop(name) is not None
        assert a == b


def test_another_state_or_too_few_images_are_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.safetensors"
    with pytest.raises(ValueError, match="lower --tokenizer-batch-size"):
        train(folder, path, settings=replace(TINY, tokenizer_batch_size=16))
    settings = replace(TINY, tokenizer_steps=4)
    monkeypatch.setattr(TokenizerTraining, "finish", lambda *_: None)  # killed before
    train(folder, path, settings=settings, checkpoint_steps=2)
    assert (tmp_path / "t/state.pt").is_file()
    with pytest.raises(ValueError, match="other settings, images or precision"):
        train(folder, path, settings=replace(settings, tokenizer_beta=1.0))


def test_a_loss_that_is_not_finite_ends_the_run(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ArithmeticError, match="lower --tokenizer-lr"):
        train(
            folder,
            tmp_path / "t.safetensors",
            settings=replace(
                TINY, tokenizer_lr=1e30, tokenizer_encoder_wait=0.0, tokenizer_encoder_lr=1.0
            ),
        )


def test_a_last_update_that_is_not_finite_writes_no_tokenizer(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lr = TokenizerSettings.lr
    monkeypatch.setattr(
        TokenizerSettings, "lr", lambda self, step: float("nan") if step == 23 else lr(self, step)
    )
    with pytest.raises(ArithmeticError, match=r"step 24: its update made values of \S+ NaN"):
        train(folder, tmp_path / "t.safetensors")
    assert not (tmp_path / "t.safetensors").exists()


def test_schedules_reach_what_the_paper_states() -> None:
    assert FULL.temperature(0) == 1.0
    assert FULL.temperature(150_000) == pytest.approx(1 / 16)
    assert FULL.beta(0) == 0.0
    assert FULL.beta(5_000) == pytest.approx(6.6)
    assert FULL.lr(0) == pytest.approx(1e-4)
    assert FULL.lr(1_200_000) == pytest.approx(1.25e-6)
    assert FULL.encoder_lr(7) == FULL.lr(7)


def test_the_tool_explains_user_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location(
        "train_tokenizer_tool", ROOT / "tools/train_tokenizer.py"
    )
    assert spec
    assert spec.loader
    tool = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "train_tokenizer_tool", tool)
    spec.loader.exec_module(tool)
    out = str(tmp_path / "t.safetensors")
    for arguments, error in (
        (["--data", str(tmp_path / "none"), "--out", out], "error: no data at"),
        (["--data", str(tmp_path), "--out", str(tmp_path / "t")], "ends in .safetensors"),
        (["--data", str(tmp_path), "--out", out, "--image-size", "60"], "multiple of 8"),
    ):
        monkeypatch.setattr(sys, "argv", ["train_tokenizer.py", *arguments])
        assert tool.main() == 2
        assert error in capsys.readouterr().err
