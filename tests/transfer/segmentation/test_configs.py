"""Every shipped config: builds, has the published size and learning rates, and takes a step."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS
from torch.utils.flop_counter import FlopCounterMode

from transfer.segmentation import runner  # noqa: F401
from transfer.segmentation.config import fill_in, load_config
from transfer.segmentation.optimizer import parameter_groups, wrapper_type

FOLDER = Path("configs/segmentation")
SMALL = ("custom", "shapes_upernet", "shapes_zoom_upernet")
ALL = {p.stem for p in FOLDER.glob("*.py")}
LINEAR = sorted(name for name in ALL if name.startswith("linear_"))  # test_linear_head.py
FULL = sorted(ALL - {*SMALL, *LINEAR})
GOLDEN = json.loads(Path("tests/golden/layer_decay_and_schedules.json").read_text())

# Parameters (M) and multiply-adds (G) of a 512x2048 or 640x2560 input as published:
# facebookresearch/ConvNeXt semantic_segmentation/README.md, ConvNeXt V2 paper (2301.00808) table 7
PUBLISHED = {
    "convnext_tiny_upernet_512": (60, 939),
    "convnext_small_upernet_512": (82, 1027),
    "convnext_base_upernet_512": (122, 1170),
    "convnext_base_22k_upernet_640": (122, 1828),
    "convnext_large_22k_upernet_640": (235, 2458),
    "convnext_xlarge_22k_upernet_640": (391, 3335),
    "convnextv2_base_upernet_512": (122, 1170),
    "convnextv2_large_upernet_512": (235, 1573),
    "convnextv2_huge_upernet_512": (707, 3272),
    "convnextv2_huge_upernet_640": (707, 5113),
}
DECAYS = {
    "convnext_tiny_upernet_512": "convnext_tiny_stage_wise_decay0.9_layers6",
    "convnext_base_upernet_512": "convnext_base_stage_wise_decay0.9_layers12",
    "beit_base_pt_upernet_512": "beit_base_decay0.65_layers12",
    "beit_base_ft_upernet_640": "beit_base_decay0.9_layers12",
    "beit_large_ft_upernet_512": "beit_large_decay0.95_layers24",
}


def build(cfg):
    with DefaultScope.overwrite_default_scope("mmseg"):
        return MODELS.build(cfg.model)


def timm_name(official: str) -> str:
    """A name of the official ConvNeXt or BEiT segmentor in ours."""
    name = official.removeprefix("backbone.")
    if name.startswith("downsample_layers.0."):
        name = name.replace("downsample_layers.0.", "stem.")
    elif name.startswith("downsample_layers."):
        stage, rest = name.removeprefix("downsample_layers.").split(".", 1)
        name = f"stages.{stage}.downsample.{rest}"
    elif name.startswith("stages."):
        _, stage, block, rest = name.split(".", 3)
        name = f"stages.{stage}.blocks.{block}.{rest.replace('dwconv', 'conv_dw')}"
    return f"backbone.features.encoder.{name}"


@pytest.mark.parametrize("name", FULL)
def test_a_full_size_config_builds(name):
    cfg = fill_in(load_config(FOLDER / f"{name}.py"))
    with torch.device("meta"):
        model = build(cfg).eval()
    assert cfg.max_iters * cfg.batch_size == 160_000 * 16
    assert cfg.num_classes == model.decode_head.num_classes == 150
    assert cfg.reduce_zero_label
    decay = cfg.optim_wrapper.paramwise_cfg
    groups = parameter_groups(model, cfg.lr, cfg.weight_decay, **decay)
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))
    rates = {n: g["lr"] / cfg.lr for g in groups for n in g["names"]}
    if name in DECAYS:
        for official, factor in GOLDEN[DECAYS[name]].items():
            if "backbone" in official and timm_name(official) in rates:
                assert rates[timm_name(official)] == pytest.approx(factor, rel=1e-12), official
    if name in PUBLISHED:
        millions, giga = PUBLISHED[name]
        assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.5)
        with FlopCounterMode(display=False) as flops, torch.no_grad():
            images = torch.empty(1, 3, *reversed(cfg.scale), device="meta")
            model.decode_head(model.extract_feat(images))
        assert flops.get_total_flops() / 2e9 == pytest.approx(giga, abs=1.5)


@pytest.mark.parametrize("name", DECAYS)
def test_most_of_a_golden_table_is_compared(name):
    cfg = fill_in(load_config(FOLDER / f"{name}.py"))
    with torch.device("meta"):
        names = {n for n, _ in build(cfg).named_parameters()}
    official = [n for n in GOLDEN[DECAYS[name]] if n.startswith("backbone.")]
    assert sum(timm_name(n) in names for n in official) >= len(official) - 6


SMALL_NETS = {
    "convnext": {"depths": [1, 1, 1, 1], "dims": [8, 12, 16, 24]},
    "resnet": {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]},
    "beit": {"depth": 4, "embed_dim": 24, "num_heads": 2},
    "vit": {"depth": 4, "embed_dim": 24, "num_heads": 2},
}


@pytest.mark.parametrize("name", FULL)
def test_a_config_takes_a_step_at_reduced_size(name):
    """Everything as configured, precision and optimizer too, but for widths, sizes and rate."""
    cfg = load_config(FOLDER / f"{name}.py")
    family = next(f for f in SMALL_NETS if cfg.arch.startswith(f))
    cfg.arch_args = SMALL_NETS[family]
    cfg.lr = 0.01  # a step that float32 can see
    cfg.update(
        {
            "image_size": 64 if family in ("beit", "vit") else None,
            "crop_size": (64, 64),
            "data_root": "/data",
            "head_channels": 8,
            "aux_channels": 8,
            "drop_path_rate": 0.0,
        }
    )
    heads = cfg.model.auxiliary_head
    for head in heads if isinstance(heads, list) else [heads]:
        head.channels = 8
    if "channels" in cfg.model.decode_head and cfg.model.decode_head.channels == 256:
        cfg.model.decode_head.channels = 8
    cfg = fill_in(cfg)
    model = build(cfg)
    model.init_weights()
    settings = dict(cfg.optim_wrapper)
    settings["type"] = wrapper_type("bf16" if cfg.precision == "fp16" else cfg.precision)
    decay = settings.pop("paramwise_cfg")
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.get(settings.pop("constructor"))
    wrapper = constructor(settings, decay)(model)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    for _ in range(2 * cfg.accumulation_steps):
        log = model.train_step(batch(cfg), wrapper)
    assert torch.isfinite(log["loss"])
    still = [n for n, p in model.named_parameters() if torch.equal(p, before[n])]
    assert not still


def batch(cfg, size=64):
    """Two random images with labels."""
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    labels = torch.randint(0, cfg.num_classes, (2, 1, size, size))
    samples = [SegDataSample(gt_sem_seg=PixelData(data=x)) for x in labels]
    for sample in samples:
        sample.set_metainfo({"img_shape": (size, size)})
    images = torch.randint(0, 255, (2, 3, size, size), dtype=torch.uint8)
    return {"inputs": list(images), "data_samples": samples}


def test_short_forms():
    path = FOLDER / "convnext_tiny_upernet_512.py"
    quarter = fill_in(load_config(path, ["budget=quarter"]))
    assert (quarter.max_iters, quarter.param_scheduler[0].warmup) == (40_000, 375)
    assert quarter.param_scheduler[0].end == quarter.train_cfg.max_iters == 40_000
    debug = fill_in(load_config(path, ["budget=debug"]))
    assert (debug.train_cfg.max_iters, debug.val_dataloader.dataset.limit) == (20, 8)


def test_the_published_evaluation():
    for name, crop, stride in (
        ("beit_base_ft_upernet_640", 640, 426),
        ("convnext_base_upernet_512", 512, 341),
    ):
        test = fill_in(load_config(FOLDER / f"{name}.py")).model.test_cfg
        assert (test.mode, test.crop_size, test.stride) == ("slide", (crop,) * 2, (stride,) * 2)


def test_multiscale_views():
    path = FOLDER / "beit_base_ft_upernet_640.py"
    cfg = fill_in(load_config(path, ["tta.on=True"]))
    resizes, flips, *_ = cfg.evaluation_pipeline[1].transforms
    assert [r.scale for r in resizes] == [640, 640, 640, 800, 960, 1120]  # never below the crop
    assert [f.prob for f in flips] == [0.0, 1.0]
    path = FOLDER / "convnextv2_base_upernet_512.py"
    cfg = fill_in(load_config(path, ["tta.on=True"]))
    scales = [r.scale for r in cfg.evaluation_pipeline[1].transforms[0]]
    assert scales == [(1536, 384), (1792, 448), (2048, 512), (2304, 576), (2560, 640)]


@pytest.mark.parametrize(
    ("name", "mode", "shortest"),
    [
        ("convnext_base_upernet_512", "whole", 256),  # *_ms.py: no test_cfg, --aug-test
        ("convnext_xlarge_22k_upernet_640", "whole", 320),
        ("convnextv2_huge_upernet_640", "whole", 480),
        ("beit_base_ft_upernet_512", "slide", 512),  # SETR_Resize
        ("mae_base_upernet_512", "slide", 512),  # min_size=512
        ("resnet50_upernet_512", "whole", 256),
    ],
)
def test_the_published_multiscale_evaluation(name, mode, shortest):
    cfg = fill_in(load_config(FOLDER / f"{name}.py", ["tta.on=True"]))
    assert cfg.model.test_cfg.mode == mode
    first = cfg.evaluation_pipeline[1].transforms[0][0].scale
    assert (first if isinstance(first, int) else min(first)) == shortest


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("beit_large_ft_upernet_640", "fp16"),  # use_fp16=True
        ("convnext_base_22k_upernet_640", "fp16"),  # use_fp16=True
        ("convnext_large_22k_upernet_640", "fp32"),  # use_fp16=False
        ("convnext_xlarge_22k_upernet_640", "fp32"),  # use_fp16=False
        ("mae_base_upernet_512", "fp16"),  # fp16=dict(loss_scale="dynamic")
        ("resnet50_upernet_512", "fp32"),
    ],
)
def test_the_published_precision(name, precision):
    assert load_config(FOLDER / f"{name}.py").precision == precision


def test_precisions(monkeypatch):
    assert wrapper_type("fp32") == "FiniteOptimWrapper"
    assert wrapper_type("bf16") == "FiniteBfloat16OptimWrapper"
    with pytest.raises(ValueError, match="precision=fp16 needs a CUDA device"):
        wrapper_type("fp16")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert wrapper_type("fp16") == "FiniteFloat16OptimWrapper"
