"""A linear classifier on frozen maps: what is trained, what stays as it was, from any encoder."""

import pytest
import torch
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS

from pretrain.files.encoder_file import write_encoder
from tests.identity import identity_of
from tests.transfer.segmentation.test_configs import FOLDER, LINEAR, SMALL_NETS, batch
from transfer.features.timm_features import build_encoder
from transfer.results.record import read_result
from transfer.segmentation import runner  # noqa: F401
from transfer.segmentation.config import fill_in, load_config, protocol
from transfer.segmentation.optimizer import wrapper_type
from transfer.segmentation.run import run

ARCHS = {
    "resnet": "resnet50",
    "convnext": "convnext_base",
    "vit": "vit_base_patch16_224",
    "beit": "beit_base_patch16_224",
}


def encoder_file(folder, family):
    """A small encoder with dropped paths in training, as a pretraining leaves it."""
    arch, args = ARCHS[family], SMALL_NETS[family]
    torch.manual_seed(0)
    net = build_encoder(arch, args)
    identity = identity_of(arch, args, pixel_mean=(0.4, 0.4, 0.4))
    write_encoder(folder / "encoder.safetensors", net.state_dict(), identity)
    return folder / "encoder.safetensors"


def segmentor(name, *options):
    words = ["crop_size=(64, 64)", "data_root=/data", *options]
    cfg = fill_in(load_config(FOLDER / f"{name}.py", words))
    with DefaultScope.overwrite_default_scope("mmseg"):
        return cfg, MODELS.build(cfg.model)


def optimizer_of(cfg, model):
    settings = {**cfg.optim_wrapper, "type": wrapper_type(cfg.precision)}
    decay = settings.pop("paramwise_cfg")
    return OPTIM_WRAPPER_CONSTRUCTORS.get(settings.pop("constructor"))(settings, decay)(model)


@pytest.mark.parametrize("family", ARCHS)
def test_any_encoder_stays_to_the_bit_and_the_head_learns(family, tmp_path):
    """BatchNorm statistics too, and stochastic depth does nothing; the head alone is trained."""
    words = [f"weights={encoder_file(tmp_path, family)}", "drop_path_rate=0.5"]
    cfg, model = segmentor("linear_512", *words)
    model.init_weights()
    wrapper = optimizer_of(cfg, model)
    model.train()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    images = torch.rand(2, 3, 64, 64)
    maps = [m.clone() for m in model.extract_feat(images)]
    for _ in range(2):
        model.train_step(batch(cfg), wrapper)
    for now, then in zip(model.extract_feat(images), maps, strict=True):
        assert torch.equal(now, then)
    changed = {n for n, t in model.state_dict().items() if not torch.equal(t, before[n])}
    assert changed == {n for n in before if n.startswith("decode_head.")}
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {
        f"decode_head.{part}.{kind}" for part in ("norm", "conv_seg") for kind in ("weight", "bias")
    }
    assert model.data_preprocessor.mean.flatten().tolist() == pytest.approx([102.0] * 3)


@pytest.mark.parametrize("name", LINEAR)
def test_a_shipped_config_is_dinov2s_schedule_on_the_maps_it_names(name):
    cfg = load_config(FOLDER / f"{name}.py", ["data_root=/data"])
    assert (cfg.max_iters, cfg.batch_size, cfg.warmup_iters) == (40_000, 16, 1500)
    family = next((f for f in ARCHS if cfg.arch == ARCHS[f]), "resnet")
    with torch.device("meta"):
        filled, model = segmentor(name, *([] if cfg.arch else [f"arch={ARCHS[family]}"]))
    groups = optimizer_of(filled, model).optimizer.param_groups
    assert [(g["lr"], g["weight_decay"]) for g in groups] == [(1e-3, 1e-4)]
    channels = model.backbone.channels
    last = "vit" in name
    assert model.decode_head.norm.num_features == (channels[-1] if last else sum(channels))
    assert protocol(cfg)["freeze"] == "backbone"


def test_a_run_ends_in_a_record_of_frozen_features(scenes, tmp_path):
    words = [
        f"weights={encoder_file(tmp_path, 'resnet')}",
        f"data_root={scenes}",
        *(f"{s}_{k}={k}/{s}" for s in ("train", "val") for k in ("images", "labels")),
        "image_suffix=.png",
        "reduce_zero_label=False",
        "crop_size=(64, 64)",
        "scale=(256, 64)",
        "stride=(43, 43)",
        "batch_size=4",
        "max_iters=4",
        "warmup_iters=1",
        "workers=0",
        "tensorboard=False",
    ]
    config = load_config(FOLDER / "linear_512.py", words)
    config["classes"] = ["noise", "square", "stripe"]
    run(config, tmp_path / "run")
    result = read_result(tmp_path / "run")
    assert result.train["freeze"] == "backbone"
    assert "mIoU" in result.metrics
