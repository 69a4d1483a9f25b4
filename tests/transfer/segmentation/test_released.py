"""The authors' segmentors give the authors' logits, from files of the authors' layouts."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pretrain.files.read import WeightsError
from tools.golden import check_case, kind_of, read_case
from tools.golden.segmentors import build, options, write_release
from transfer.segmentation.config import CONFIGS, load_config
from transfer.segmentation.released import (
    CONFIG_OF,
    DIFFERENCES,
    FAMILIES,
    build_released,
    config_of,
    released_config,
)
from transfer.weights.segmentors import ENCODER, LAYOUTS, read_segmentor

GOLDEN = Path(__file__).parents[2] / "golden"
CASES = {
    "upernet_beit": "unilm_beit",
    "upernet_convnext": "convnext",
    "upernet_mmseg_beit": "mmseg_beit",
    "upernet_mmseg_convnext": "mmseg_convnext",
    "upernet_mmseg_mae": "mmseg_mae",
    "upernet_mmseg_resnet": "mmseg_resnet",
}
CUSTOM = CONFIGS / "custom.py"


@pytest.fixture
def case():
    return read_case(GOLDEN / "upernet_convnext", dtype=torch.float32)


@pytest.fixture
def saved(case, tmp_path):
    """saved(change) -> a release of the case, after change(its content)."""

    def save(change=None):
        path = tmp_path / "released.pth"
        write_release(case, path)
        if change:
            content = torch.load(path, weights_only=True)
            change(content)
            torch.save(content, path)
        return path

    return save


def read_and_build(case, path):
    released = read_segmentor(path)
    return build_released(released, released_config(released, CUSTOM, options(case)))


def heads_of(model, images):
    with torch.no_grad():
        maps = model.extract_feat(model.data_preprocessor({"inputs": [*images]}, False)["inputs"])
        return model.decode_head(maps), model.auxiliary_head(maps)


def test_every_layout_has_a_case():
    assert {*CASES} == {f.name for f in GOLDEN.glob("upernet_*")}
    assert {*CASES.values()} == {*LAYOUTS} == {*FAMILIES} == {*DIFFERENCES}


@pytest.mark.parametrize("name", CASES)
def test_case_is_reproduced(name):
    case = read_case(GOLDEN / name, dtype=torch.float32)
    assert kind_of(case) == "segmentor"
    checks = check_case(case)
    assert {c.name for c in checks} >= {"map:3", "decode_head", "auxiliary_head", "logits"}
    assert not [c for c in checks if not c.passed]


@pytest.mark.parametrize("name", CASES)
def test_every_tensor_has_a_place(name, tmp_path):
    """Each of the file's tensors, changed, changes the network, or is an index or a key's bias."""
    case = read_case(GOLDEN / name)
    before = build(case, tmp_path / "a.pth").state_dict()
    floats = {n: t for n, t in case.weights.items() if t.is_floating_point()}
    changed = replace(case, weights={**case.weights, **{n: t + 1.0 for n, t in floats.items()}})
    after = build(changed, tmp_path / "b.pth").state_dict()
    own = [n for n, t in before.items() if t.is_floating_point() and not n.endswith("k_bias")]
    assert not [n for n in own if torch.equal(before[n], after[n])]
    layout = read_segmentor(tmp_path / "a.pth")
    assert layout.layout == CASES[name]
    numbers = sum(t.numel() for t in floats.values())
    keys = sum(t.numel() // 3 for n, t in floats.items() if n.endswith("attn.qkv.bias"))
    assert sum(layout.tensors[n].numel() for n in own) == numbers - keys


def test_classes_are_put_in_the_order_of_the_data(case, saved):
    def move(content):
        names = content["meta"]["CLASSES"]
        content["meta"]["CLASSES"] = (*names[1:], names[0])
        for name in [n for n in content["state_dict"] if ".conv_seg." in n]:
            content["state_dict"][name] = content["state_dict"][name].roll(-1, 0)

    images = case.tensors["images"][..., :64, :64]
    plain = heads_of(read_and_build(case, saved()), images)
    for expected, got in zip(
        plain, heads_of(read_and_build(case, saved(move)), images), strict=True
    ):
        assert torch.equal(expected, got)


def test_pixels_are_those_of_the_file(case, saved):
    def bgr_by_half(content):
        content["meta"] = {
            "dataset_meta": {"classes": case.spec["classes"]},
            "cfg": "mean=[127.5, 127.5, 127.5],\n std=[51.0, 51.0, 51.0],\n bgr_to_rgb=False",
        }

    image = torch.full((3, 64, 64), 178.5)
    image[0] = 0.0
    model = read_and_build(case, saved(bgr_by_half))
    seen = model.data_preprocessor({"inputs": [image]}, False)["inputs"][0, :, 0, 0]
    torch.testing.assert_close(seen, torch.tensor([-2.5, 1.0, 1.0]))


def drop(name):
    return lambda content: content["state_dict"].pop(name)


def put(name):
    return lambda content: content["state_dict"].update({name: torch.zeros(3)})


def encoder_alone(content):
    state = content["state_dict"]
    content["state_dict"] = {n: t for n, t in state.items() if n.startswith("backbone.")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("decode_head.bottleneck.conv.weight"), "missing .1.: decode_head.bottleneck.conv"),
        (drop("backbone.norm2.weight"), "missing .1.: backbone.features.norms.res4.weight"),
        (drop("backbone.stages.2.1.gamma"), "stages.2.blocks.1.gamma"),
        (put("decode_head.extra.bias"), "left over .1.: decode_head.extra.bias"),
        (put("neck.upsample_4x.0.bias"), "left over .1.: backbone.features.pyramid.res2.0.bias"),
        (drop("auxiliary_head.conv_seg.weight"), "holds no segmentor of a known layout"),
        (encoder_alone, "without a segmentation head"),
        (lambda c: c["meta"].update(CLASSES=("wall", "sky", "car")), r"\(building, car\)"),
    ],
)
def test_a_mixed_up_file_is_one_error(case, saved, change, message):
    with pytest.raises(WeightsError, match=message):
        read_and_build(case, saved(change))


@pytest.mark.parametrize(
    "setting",
    ["align_corners=True", "pool_scales=(1, 2, 4, 8)", "dilations=(1, 1, 2, 4)", "final_norm=True"],
)
def test_what_no_tensor_shows_is_refused(saved, setting):
    whole = "strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1), align_corners=False, final_norm=False"
    assert read_segmentor(saved(lambda c: c["meta"].update(config=whole)))
    path = saved(lambda c: c["meta"].update(config=f"{whole}, pool_scales=(1, 2, 3, 6), {setting}"))
    with pytest.raises(WeightsError, match=re.escape(f"was trained with {setting}")):
        read_segmentor(path)


def test_the_blocks_are_those_of_the_file(tmp_path):
    case = read_case(GOLDEN / "upernet_beit", dtype=torch.float32)
    path = tmp_path / "released.pth"
    write_release(case, path)
    content = torch.load(path, weights_only=True)
    content["meta"]["config"] += "backbone=dict(out_indices=[0, 2, 2, 3])"
    torch.save(content, path)
    images = case.tensors["images"][..., :64, :64]
    with torch.no_grad():
        model = read_and_build(case, path)
        pixels = model.data_preprocessor({"inputs": [*images]}, False)["inputs"]
        maps = model.extract_feat(pixels)
    assert not torch.allclose(maps[1], case.tensors["map:1"], atol=0.1)
    torch.testing.assert_close(maps[2], case.tensors["map:2"], rtol=1e-4, atol=1e-4)


def test_a_vit_of_unknown_depth_is_refused(tmp_path):
    case = read_case(GOLDEN / "upernet_beit")
    weights = {n: t for n, t in case.weights.items() if ".blocks.3." not in n}
    path = tmp_path / "released.pth"
    write_release(replace(case, weights=weights), path)
    with pytest.raises(WeightsError, match="a ViT of 3 blocks"):
        read_segmentor(path)


def test_another_number_of_classes_is_refused(case, saved):
    released = read_segmentor(saved())
    more = [o for o in options(case) if not o.startswith("classes")] + ["classes=a,b,c,d"]
    with pytest.raises(WeightsError, match="has 3 classes, the data set has 4"):
        build_released(released, released_config(released, CUSTOM, more))


def test_the_net_is_the_files(saved):
    released = read_segmentor(saved())
    with pytest.raises(ValueError, match="head_channels=9: the network is the file's"):
        released_config(released, CUSTOM, ["head_channels=9"])


@pytest.mark.parametrize(("family", "arch", "crop"), CONFIG_OF)
def test_the_file_chooses_the_config(family, arch, crop):
    layout = next(n for n, of in FAMILIES.items() if of == family)
    identity = SimpleNamespace(arch=arch, arch_args={"img_size": crop})
    real = SimpleNamespace(
        encoder=SimpleNamespace(identity=identity), layout=layout, crop=crop, file="x.pth"
    )
    cfg = load_config(config_of(real))
    assert (cfg["crop_size"][0], cfg["pixels"]) == (crop, "imagenet")
    assert cfg["test_mode"] == ("whole" if family == "resnet" else "slide")


@pytest.mark.parametrize(
    ("name", "config", "crop"),
    [
        ("upernet_convnext_tiny_1k_512x512.pth", "", 512),
        ("upernet_convnext_base_22k_640x640.pth", "crop_size = (512, 512)", 512),
        ("upernet_r50_512x1024_40k_cityscapes.pth", "", None),
        ("mine.pth", "", None),
    ],
)
def test_the_crop_is_told_by_the_file(saved, name, config, crop):
    path = saved(lambda content: content.update(meta={"config": config}))
    released = read_segmentor(path.rename(path.parent / name))
    assert released.crop == crop
    with pytest.raises(WeightsError, match="no shipped config"):
        config_of(released)  # the case's net is small


def test_every_tensor_of_the_encoder_is_under_its_name(saved):
    released = read_segmentor(saved())
    encoder = {n.removeprefix(ENCODER) for n in released.tensors if n.startswith(ENCODER)}
    assert encoder == {*released.encoder.tensors}
