"""The authors' detectors give the authors' boxes and masks, from files of the authors' layouts."""

import pickle
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("detectron2")
from pretrain.files.read import WeightsError
from tools.golden import check_case, kind_of, read_case
from tools.golden.detectors import base_config, build, write_release
from transfer.detection.config import load_config
from transfer.detection.released import CONFIG_OF, CONFIGS, DIFFERENCES, config_of, released_config
from transfer.weights import read_weights
from transfer.weights.detector_names import ENCODER
from transfer.weights.detectors import LAYOUTS, read_detector

GOLDEN = Path(__file__).parents[2] / "golden"
CASES = sorted(f.name for kind in ("detectron2_*", "mmdet_*") for f in GOLDEN.glob(kind))


@pytest.fixture
def case():
    return read_case(GOLDEN / "detectron2_resnet", dtype=torch.float32)


@pytest.fixture
def saved(case, tmp_path):
    """saved(change) -> a release of the case, after change(its content)."""

    def save(change=None, of=case):
        path = tmp_path / "released.pkl"
        write_release(of, path)
        if change:
            content = pickle.loads(path.read_bytes())
            change(content)
            path.write_bytes(pickle.dumps(content))
        return path

    return save


def test_every_layout_has_a_case():
    layouts = {read_case(GOLDEN / name).spec["detector"] for name in CASES}
    assert layouts == {*LAYOUTS} == {*DIFFERENCES} == {n for n, _ in CONFIG_OF}


@pytest.mark.parametrize("name", CASES)
def test_case_is_reproduced(name):
    case = read_case(GOLDEN / name, dtype=torch.float32)
    assert kind_of(case) == "detector"
    checks = check_case(case)
    assert {c.name for c in checks} >= {"map:p6:0", "proposals:1", "boxes:1", "scores:1", "masks:1"}
    assert not [c for c in checks if not c.passed]


@pytest.mark.parametrize("name", CASES)
def test_every_tensor_has_a_place(name, tmp_path):
    """Each of the file's numbers, changed, changes the network; a class token's row is not read."""
    case = read_case(GOLDEN / name)
    before = build(case, tmp_path / "a.pkl").state_dict()
    changed = replace(case, weights={n: t + 1 for n, t in case.weights.items()})
    after = build(changed, tmp_path / "b.pkl").state_dict()
    assert not [n for n in before if torch.equal(before[n], after[n])]
    row = case.weights.get("backbone.net.pos_embed")
    unread = 0 if row is None else row.shape[2]
    given = sum(t.numel() for t in case.weights.values())
    assert sum(t.numel() for t in before.values()) == given - unread


def test_a_resnet_of_the_zoo_strides_in_its_1x1_convolutions(saved):
    released = read_detector(saved())
    config = released_config(released, CONFIGS / "resnet50_1x.py", ["data.root=x"])
    assert (config.features.stride_in_1x1, config.backbone_norm) == (True, "FrozenBN")
    assert (released.pixels.color_order, released.pixels.std) == ("BGR", (1 / 255,) * 3)


def test_a_vitdet_says_its_windows(saved):
    case = read_case(GOLDEN / "detectron2_vitdet")
    released = read_detector(saved(of=case))
    expected = {"window_size": 3, "global_blocks": [1, 3, 5, 7], "decomposed_position": 128}
    assert {n: released.options[f"features.{n}"] for n in expected} == expected
    assert released.options["model.square_pad"] == 128


def drop(name):
    return lambda content: content["model"].pop(name)


def put(name, *shape):
    return lambda content: content["model"].update({name: torch.ones(shape).numpy()})


def encoder_alone(content):
    model = content["model"]
    content["model"] = {n: t for n, t in model.items() if n.startswith("backbone.")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("roi_heads.box_head.fc2.bias"), "missing: roi_heads.box_head.fc2.bias"),
        (drop("backbone.fpn_lateral3.weight"), "missing: backbone.fpn_lateral3.weight"),
        (drop("backbone.bottom_up.res4.2.conv2.weight"), "layer3.2.conv2.weight"),
        (put("roi_heads.extra.bias", 3), "left over: roi_heads.extra.bias"),
        (put("backbone.fpn_lateral2.norm.weight", 3), "it has norms in its FPN"),
        (encoder_alone, "without heads"),
        (lambda c: c.update(__author__="somebody"), "its author is 'somebody'"),
        (
            put("proposal_generator.anchor_generator.cell_anchors.1", 3, 4),
            "its anchors of level 1 are other ones",
        ),
    ],
)
def test_a_mixed_up_file_is_one_error(case, saved, change, message, monkeypatch):
    path = saved(change)
    monkeypatch.setattr("tools.golden.detectors.write_release", lambda *_: None)
    with pytest.raises(WeightsError, match=message):
        build(case, path)


def test_stored_pixels_and_anchors_are_taken(case, saved, monkeypatch):
    def store(content):
        model = content["model"]
        put("pixel_mean", 3, 1, 1)(content)
        put("pixel_std", 3, 1, 1)(content)
        model["pixel_std"] *= 51
        own = build(case, path.with_name("own.pkl")).proposal_generator.anchor_generator
        for level, anchors in enumerate(own.cell_anchors):
            model[f"proposal_generator.anchor_generator.cell_anchors.{level}"] = anchors.numpy()

    path = saved()
    released = read_detector(saved(store))
    assert (released.pixels.std[0], released.pixels_from) == (0.2, "the file")
    assert sorted(released.anchors) == [0, 1, 2, 3, 4]
    monkeypatch.setattr("tools.golden.detectors.write_release", lambda *_: None)
    assert build(case, path)


def test_its_encoder_alone_is_refused(saved):
    path = saved(of=read_case(GOLDEN / "detectron2_vitdet"))
    with pytest.raises(WeightsError, match=r"tools/evaluate_released\.py evaluates it whole"):
        read_weights(path)


def test_a_vitdet_without_its_tables_is_refused(saved):
    path = saved(
        drop("backbone.net.blocks.3.attn.rel_pos_h"), read_case(GOLDEN / "detectron2_vitdet")
    )
    with pytest.raises(WeightsError, match="in 7 of 8 blocks"):
        read_detector(path)


def test_the_net_is_the_files(saved):
    released = read_detector(saved())
    with pytest.raises(ValueError, match=r"model\.channels=9: the network is the file's"):
        released_config(released, CONFIGS / "resnet50_1x.py", ["model.channels=9"])


def test_classes_are_put_in_the_order_of_the_data(tmp_path):
    case = read_case(GOLDEN / "mmdet_convnext_official_cascade", dtype=torch.float32)
    images = [{"image": case.tensors["image:0"]}]
    (plain,) = build(case, tmp_path / "a.pth").inference(images, do_postprocess=False)
    path = tmp_path / "b.pth"
    write_release(case, path)
    content = torch.load(path, weights_only=True)
    content["meta"]["CLASSES"] = ("post", "disc", "square")
    torch.save(content, path)
    released = read_detector(path)
    moved = released.in_order(case.spec["classes"])
    same = [n for n, t in released.tensors.items() if not torch.equal(t, moved[n])]
    parts = {n.split(".")[-2] for n in same}
    assert parts == {"cls_score", "bbox_pred", "predictor"}
    assert len(same) == 3 * 3 * 2
    row = "roi_heads.box_predictor.1.cls_score.weight"
    assert torch.equal(moved[row], released.tensors[row][[1, 2, 0, 3]])
    assert len(plain) == 30
    with pytest.raises(WeightsError, match=r"other classes than the data set's \(car, post\)"):
        released.in_order(("disc", "square", "car"))


def test_soft_nms_is_the_files(tmp_path):
    path = tmp_path / "a.pth"
    write_release(read_case(GOLDEN / "mmdet_convnext"), path)
    content = torch.load(path, weights_only=True)
    content["meta"]["config"] += "test_cfg=dict(rcnn=dict(nms=dict(type='soft_nms')))"
    torch.save(content, path)
    with pytest.raises(WeightsError, match="was tested with Soft-NMS"):
        released_config(read_detector(path), CONFIGS / "convnext_tiny_3x.py", ["data.root=x"])


def test_small_nets_have_no_config(saved):
    with pytest.raises(WeightsError, match="no shipped config is that of resnet50"):
        config_of(read_detector(saved()))


@pytest.mark.parametrize(("layout", "arch"), CONFIG_OF)
def test_the_file_chooses_the_config(layout, arch):
    identity = SimpleNamespace(arch=arch, arch_args={})
    real = SimpleNamespace(
        encoder=SimpleNamespace(identity=identity), layout=layout, classes=80, file="x.pkl"
    )
    config = load_config(config_of(real), ["data.root=x"], training=False)
    side = config.input.test[0].short_edge_length
    assert side == (1024 if layout == "vitdet" else 800)
    assert (config.model.score_threshold, config.model.max_detections) == (0.05, 100)


def test_every_tensor_of_the_encoder_is_under_its_name(saved):
    released = read_detector(saved())
    encoder = {n.removeprefix(ENCODER) for n in released.tensors if n.startswith(ENCODER)}
    assert encoder == {*released.encoder.tensors}
    assert base_config(read_case(GOLDEN / "detectron2_vitdet")).is_file()
