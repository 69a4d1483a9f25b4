"""Every shipped config is built: the network it describes, small or without memory."""

from pathlib import Path

import pytest
import torch

from pretrain.config import load_recipe
from pretrain.methods import build_method
from pretrain.tokenizer.networks import VAESizes
from pretrain.tokenizer.vae import DiscreteVAE
from transfer.suites.inputs import MISSING
from transfer.suites.steps import plan
from transfer.suites.suite import load_suite

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
# where a config leaves the net to the weights or the command line
NETS = ("resnet18", "convnextv2_atto", "beit_base_patch16_224")
NET_ARGS = {
    "convnextv2_atto": {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]},
    "beit_base_patch16_224": {"embed_dim": 32, "depth": 4, "num_heads": 2, "img_size": 128},
}
CUSTOM_DATA = [f"data.{s}_{k}=x" for s in ("train", "val") for k in ("json", "images")]


def shipped(kind: str) -> list[str]:
    """Names of the configs to run; building blocks start with an underscore or lie deeper."""
    return sorted(p.name for p in (CONFIGS / kind).glob("*.py") if not p.name.startswith("_"))


def overrides(arch: str) -> list[str]:
    return [f"arch={arch}", f"arch_args={NET_ARGS.get(arch, {})}"]


def test_there_are_configs():
    assert all(shipped(kind) for kind in ("pretrain", "detection", "segmentation", "suites"))


@pytest.fixture(scope="module")
def tokenizer():
    """A tokenizer of another size than a real one, in memory."""
    sizes = VAESizes(vocab_size=16, n_hid=4, n_blk_per_group=1, n_init=4)
    return DiscreteVAE(sizes, with_decoder=False).eval()


@pytest.mark.parametrize("name", shipped("pretrain"))
def test_pretraining(name, tokenizer, monkeypatch):
    monkeypatch.setattr("pretrain.methods.build.read_tokenizer", lambda _path: tokenizer)
    recipe = load_recipe(CONFIGS / "pretrain" / name)
    with torch.device("meta"):
        method = build_method(recipe, Path("tokenizer"))
    assert method.encoder_state()
    assert all(p.is_meta for p in method.parameters())


@pytest.mark.parametrize("name", shipped("detection"))
def test_detection(name):
    pytest.importorskip("detectron2")
    from transfer.detection.build import build_detector
    from transfer.detection.config import load_config

    path = CONFIGS / "detection" / name
    options = ["weights=none", *(CUSTOM_DATA if name.startswith("custom") else [])]
    own = load_config(path, options).arch
    for arch in [None] if own else NETS:
        config = load_config(path, [*options, *(overrides(arch) if arch else [])])
        with torch.device("meta"):
            detector = build_detector(config, num_classes=3)
        assert detector.features.arch == (arch or own)
        assert detector.model.roi_heads.num_classes == 3


@pytest.mark.parametrize("name", shipped("segmentation"))
def test_segmentation(name, tmp_path):
    pytest.importorskip("mmseg")
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    import transfer.segmentation.runner  # noqa: F401  (registers our parts)
    from transfer.segmentation.config import fill_in, load_config

    init_default_scope("mmseg")

    path = CONFIGS / "segmentation" / name
    own = load_config(path)["arch"]
    for arch in [None] if own else NETS:
        config = load_config(path, ["weights=none", *(overrides(arch) if arch else [])])
        config["data_root"] = config["data_root"] or str(tmp_path)
        config["classes"] = config["classes"] or ["one", "two"]
        filled = fill_in(config)
        with torch.device("meta"):
            model = MODELS.build(filled["model"])
        assert model.decode_head.num_classes == len(filled["classes"])


@pytest.mark.parametrize("name", shipped("suites"))
def test_suites_name_configs_that_exist_and_keys_they_have(name, tmp_path):
    given = ("weights=spark_resnet50",) if name in ("own_encoder.py", "proxy.py") else ()
    suite = load_suite(CONFIGS / "suites" / name, given)
    steps = plan(suite, tmp_path)
    assert len(steps) >= len(suite.cells)
    for step in steps:
        assert step.settings.get("config") != MISSING, step.problems
