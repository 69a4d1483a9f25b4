"""DALL-E's pickled modules are read without running them; hostile ones are refused unrun."""

import os
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pretrain.config.tokenizer import VAESizes
from pretrain.tokenizer.dalle_release import convert
from pretrain.tokenizer.vae import DiscreteVAE

SIZES = VAESizes(vocab_size=16, n_hid=8, n_blk_per_group=2, n_init=8)


def save_as_released(part: nn.Module, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pickle `part` whole, its own classes under the module name dall_e.parts."""
    fake: Any = types.ModuleType("dall_e.parts")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "dall_e", types.ModuleType("dall_e"))
        patch.setitem(sys.modules, "dall_e.parts", fake)
        for module in part.modules():
            kind = type(module)
            module.device = torch.device("cpu")  # type: ignore[assignment]
            if kind.__module__.startswith("pretrain."):
                setattr(fake, kind.__name__, kind)
                patch.setattr(kind, "__module__", "dall_e.parts")
        torch.save(part, path)


def test_released_form_gives_the_same_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = DiscreteVAE(SIZES)
    for name in ("encoder", "decoder"):
        save_as_released(getattr(vae, name), tmp_path / f"{name}.pkl", monkeypatch)
    images = torch.rand(1, 3, 16, 16)
    both = convert(tmp_path / "encoder.pkl", tmp_path / "decoder.pkl")
    assert both.sizes == SIZES
    assert both.state_dict().keys() == vae.state_dict().keys()
    assert all(torch.equal(both.state_dict()[n], t) for n, t in vae.state_dict().items())
    alone = convert(tmp_path / "encoder.pkl")
    assert alone.decoder is None
    assert torch.equal(alone.tokens(images), both.tokens(images))


class Hostile:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("function", [os.mkdir, eval, exec, getattr, torch.load, nn.init.zeros_])
def test_hostile_pickles_are_refused_unrun(tmp_path: Path, function: Any) -> None:
    made = tmp_path / "made"
    argument = str(made) if function is os.mkdir else f"__import__('os').mkdir({str(made)!r})"
    arguments = (argument, "x") if function is getattr else (argument,)
    network = nn.Linear(2, 2)
    network.extra = Hostile(function, *arguments)  # type: ignore[assignment]
    torch.save(network, tmp_path / "encoder.pkl")
    with pytest.raises(ValueError, match="refused, because reading it would run code"):
        convert(tmp_path / "encoder.pkl")
    assert not made.exists()


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "encoder.pkl"
    with pytest.raises(FileNotFoundError):
        convert(path)
    path.write_bytes(b"not a zip")
    with pytest.raises(ValueError, match="neither safetensors, nor a torch archive"):
        convert(path)
    torch.save(nn.Linear(2, 2), path)
    with pytest.raises(ValueError, match="not a DALL-E encoder"):
        convert(path)


def test_a_compressed_archive_is_refused_before_it_grows(tmp_path: Path) -> None:
    torch.save(nn.Linear(1000, 100), tmp_path / "plain.pkl")
    with (
        zipfile.ZipFile(tmp_path / "plain.pkl") as plain,
        zipfile.ZipFile(tmp_path / "small.pkl", "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for name in plain.namelist():
            small.writestr(name, plain.read(name))
    with pytest.raises(ValueError, match="is compressed"):
        convert(tmp_path / "small.pkl")
