"""A BEiT run that trains its tokenizer first: broken off in either stage it ends bit-identical."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pretrain.config import (
    BeitSettings,
    Optimizer,
    Recipe,
    RunSettings,
    Schedule,
    TokenizerSettings,
)
from pretrain.files.encoder_file import read_encoder
from pretrain.run import folder
from pretrain.tokenizer.vae import read_tokenizer
from pretrain.train import train

RECIPE = Recipe(
    arch="beit_base_patch16_224",
    arch_args={"embed_dim": 24, "depth": 2, "num_heads": 2, "init_values": 0.1},
    image_size=64,
    drop_path_rate=0.2,
    method=BeitSettings(
        tokenizer_training=TokenizerSettings(
            tokenizer_vocab_size=16,
            tokenizer_n_hid=8,
            tokenizer_n_init=8,
            tokenizer_steps=6,
            tokenizer_batch_size=4,
            tokenizer_crop_px=16,
        )
    ),
    batch_size=8,
    optimizer=Optimizer(base_lr=1e-3, lr_batch_size=0, clip_norm=3.0),
    schedule=Schedule(steps=6, warmup_steps=2, curve="beit"),
    run=RunSettings(workers=0, log_steps=2, checkpoint_steps=2, pictures=2, device="cpu"),
)


def test_broken_off_in_either_stage_it_ends_the_same(
    photos: Path, tmp_path: Path, break_off: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(RECIPE, data=photos, out=whole)
    break_off(3, "tokenizer")
    with pytest.raises(KeyboardInterrupt):
        train(RECIPE, data=photos, out=broken, resume=True)
    monkeypatch.undo()
    assert (broken / "tokenizer" / folder.STATE).is_file()
    break_off(3)
    with pytest.raises(KeyboardInterrupt):
        train(RECIPE, data=photos, out=broken, resume=True)
    monkeypatch.undo()
    train(RECIPE, data=photos, out=broken, resume=True)
    digests = [read_tokenizer(out / folder.TOKENIZER).digest() for out in (whole, broken)]
    assert digests[0] == digests[1]
    (first, identity), (second, _) = (read_encoder(o / folder.ENCODER) for o in (whole, broken))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert "rel_pos_bias.relative_position_bias_table" in first
    lines = [json.loads(line) for line in (whole / folder.LOG).read_text().splitlines()]
    assert all(0 <= line["mlm_acc"] <= 1 for line in lines)
    assert any(line["mlm_acc"] > 0 for line in lines)
    assert identity.arch_args["img_size"] == 64
    assert (broken / folder.PICTURE).is_file()


def test_a_missing_tokenizer_file_is_named(photos: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, method=BeitSettings(tokenizer=str(tmp_path / "none.safetensors")))
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        train(recipe, data=photos, out=tmp_path / "out")
