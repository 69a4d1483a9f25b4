"""Images and encoder files for analyses."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from pretrain.files.encoder_file import write_encoder
from pretrain.files.lineage import Stage
from tests.identity import identity_of
from tests.transfer.weights.cases_layouts import random_net

Writer = Callable[..., str]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six gradients of 80 x 64 pixels."""
    (tmp_path / "images").mkdir()
    for i in range(6):
        image = Image.linear_gradient("L").rotate(30 * i).convert("RGB")
        image.resize((80, 64)).save(tmp_path / "images" / f"{i}.png")
    return tmp_path / "images"


@pytest.fixture
def encoder(tmp_path: Path) -> Writer:
    """Write an encoder file NAME of an architecture with random weights; return its path."""

    def write(name: str, arch: str, args: dict, seed: int = 0) -> str:
        net = random_net(arch, args, seed, num_classes=0)
        identity = identity_of(arch, args, method="test", stages=(Stage("test"),))
        path = tmp_path / f"{name}.safetensors"
        write_encoder(path, net.state_dict(), identity)
        return str(path)

    torch.manual_seed(0)
    return write
