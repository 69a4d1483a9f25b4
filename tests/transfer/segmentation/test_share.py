"""Training on a share of the labelled images: what the record says of it."""

import shutil

import pytest

pytest.importorskip("mmseg")

from tests.transfer.segmentation.conftest import CUSTOM
from transfer.segmentation.config import fill_in, load_config, protocol
from transfer.segmentation.data import LabelledImages, check_data
from transfer.segmentation.protocol import images, origin_of, protocols


def loaded(tiny, *more):
    cfg = load_config(CUSTOM, [*tiny, *more])
    return cfg, fill_in(cfg)


def trained_on(filled):
    settings = {**filled["train_dataloader"]["dataset"], "pipeline": []}
    settings.pop("type")
    data = LabelledImages(**settings)
    return [sample["image_name"] for sample in data.load_data_list()]


def test_the_record_tells_the_images_of_a_share_and_the_share(tiny, scenes, tmp_path):
    (cfg, whole), (half_cfg, half), (_, eighth) = (
        loaded(tiny, *more) for more in ([], ["train_share=0.5"], ["train_share=0.125"])
    )
    names = [trained_on(filled) for filled in (whole, half, eighth)]
    assert [len(found) for found in names] == [16, 8, 2]
    assert set(names[2]) < set(names[1]) < set(names[0])
    said = protocols(half_cfg, half, None).train
    assert said["data"]["images"] == 8
    assert said["train_share"] == 0.5
    assert "share" not in str(protocols(cfg, whole, None).train)  # hashes of other runs do not move
    shipped = load_config(CUSTOM)
    shipped.merge_from_dict({key: half_cfg[key] for key in ("data_root", "classes")})
    assert origin_of(half_cfg, shipped, half, None)["train"]["train_share"] == [None, 0.5]

    # folders that hold the same images alone are the same list; the others need no label maps
    for kind in ("images", "labels"):
        shutil.copytree(scenes / kind / "val", tmp_path / kind / "val")
        (tmp_path / kind / "train").mkdir(parents=True)
        for name in names[1] if kind == "labels" else names[0]:
            shutil.copy(scenes / kind / "train" / f"{name}.png", tmp_path / kind / "train")
    _, lacking = loaded([*tiny, f"data_root={tmp_path}"], "train_share=0.5")
    check_data(lacking)
    assert trained_on(lacking) == names[1]
    for name in set(names[0]) - set(names[1]):
        (tmp_path / "images/train" / f"{name}.png").unlink()
    _, by_hand = loaded([*tiny, f"data_root={tmp_path}"])
    assert images(by_hand)[0] == said["data"]


def test_a_run_is_not_resumed_on_another_share(tiny):
    (whole, _), (half, _) = (loaded(tiny, *m) for m in ([], ["train_share=0.5"]))
    assert protocol(whole) != protocol(half)
