"""Protocols are hashed by meaning: what cannot change a number does not change them."""

from pathlib import Path

import pytest

from transfer.results.protocol import (
    Protocols,
    differing,
    image_list,
    origin,
    protocol_hash,
    without,
)


def test_hash_ignores_key_order_and_sees_every_value():
    assert protocol_hash({"a": 1, "b": 2}) == protocol_hash({"b": 2, "a": 1})
    assert protocol_hash({"a": 1, "b": 2}) != protocol_hash({"a": 1, "b": 3})
    assert protocol_hash({"a": (1, 2)}) == protocol_hash({"a": [1.0, 2]})
    assert protocol_hash({"a": True}) != protocol_hash({"a": 1})


def test_image_lists_differ_by_their_images_alone():
    assert image_list(["b", "a"], ["x"]) == image_list(["a", "b"], ["x"])
    assert image_list(["a", "b"], ["x"])["digest"] != image_list(["a", "c"], ["x"])["digest"]
    assert image_list(["ab"], [])["digest"] != image_list(["a", "b"], [])["digest"]
    assert image_list(["a", "b"], [])["images"] == 2


def test_settings_are_left_out_at_any_depth():
    settings = {"train": {"batch": 2, "workers": 3}, "seed": 0}
    assert without(settings, ["train.workers", "seed"]) == {"train": {"batch": 2}}
    assert settings["train"]["workers"] == 3


def test_differences_are_named_in_dots():
    old = {"optimizer": {"lr": 1e-4, "decay": 0}, "steps": 5}
    new = {"optimizer": {"lr": 2e-4, "decay": 0.0}, "steps": 5, "ema": 0.9}
    assert differing(old, new) == {"optimizer.lr": [1e-4, 2e-4], "ema": [None, 0.9]}


def test_only_a_shipped_config_is_an_origin(tmp_path):
    shipped = Protocols({"lr": 1}, {"tta": None})
    own = Protocols({"lr": 2}, {"tta": None})
    path = Path(__file__).parents[3] / "configs/detection/spark_resnet50_1x.py"
    assert origin(path, shipped, own, "detection") == {
        "name": "spark_resnet50_1x",
        "train": {"lr": [1, 2]},
        "eval": {},
    }
    assert origin(tmp_path / "mine.py", shipped, own, "detection") is None
    assert origin(None, shipped, own, "detection") is None


@pytest.mark.parametrize("name", ["custom_coco", "spark_resnet50_1x"])
def test_detection_leaves_out_what_cannot_change_the_number(name):
    pytest.importorskip("detectron2")
    from transfer.detection.config import load_config
    from transfer.detection.protocol import protocols_of

    path = Path(__file__).parents[3] / f"configs/detection/{name}.py"
    data = [f"data.{s}_{k}=x" for s in ("train", "val") for k in ("json", "images")]

    def hashes(*options):
        made = protocols_of(load_config(path, [*data, *options]), {"images": 1}, {"images": 1})
        return protocol_hash(made.train), protocol_hash(made.eval)

    plain = hashes()
    same = ("train.workers=9", "train.accumulation_steps=2", "output_dir=y", "seed=4")
    assert plain == hashes(*same)
    assert plain == hashes("features.grad_checkpointing=true", "test.engine=pycocotools")
    train, evaluation = hashes("optimizer.lr=0.5")
    assert (train != plain[0], evaluation == plain[1]) == (True, True)
    train, evaluation = hashes("model.score_threshold=0.3")
    assert (train == plain[0], evaluation != plain[1]) == (True, True)


def test_segmentation_leaves_out_what_cannot_change_the_number():
    pytest.importorskip("mmseg")
    from transfer.segmentation.config import load_config
    from transfer.segmentation.protocol import protocols_of

    folder = Path(__file__).parents[3] / "configs/segmentation"

    def hashes(name, *options):
        cfg = load_config(folder / f"{name}.py", options)
        made = protocols_of(cfg, {"images": 1}, {"images": 1})
        return protocol_hash(made.train), protocol_hash(made.eval)

    plain = hashes("convnext_tiny_upernet_512")
    same = hashes("convnext_tiny_upernet_512", "workers=9", "seed=4", "data_root=elsewhere")
    assert plain == same
    train, evaluation = hashes("convnext_tiny_upernet_512", "lr=0.5")
    assert (train != plain[0], evaluation == plain[1]) == (True, True)
    train, evaluation = hashes("convnext_tiny_upernet_512", "test_mode=whole")
    assert (train == plain[0], evaluation != plain[1]) == (True, True)


def test_the_name_of_a_config_is_not_part_of_a_protocol(tmp_path):
    pytest.importorskip("mmseg")
    from transfer.segmentation.config import load_config
    from transfer.segmentation.protocol import protocols_of

    shipped = Path(__file__).parents[3] / "configs/segmentation/resnet50_upernet_512.py"
    mine = tmp_path / "mine.py"
    mine.write_text(f'_base_ = ["{shipped}"]\n')
    first, second = (protocols_of(load_config(p), {}, {}) for p in (shipped, mine))
    assert first == second
