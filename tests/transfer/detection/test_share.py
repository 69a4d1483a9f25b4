"""Training on a share of COCO's images: what the record says of it."""

import json
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

from transfer.detection.folder import identity_of
from transfer.detection.prepare import prepare, training_batches
from transfer.detection.protocol import origin_of, protocols


def trained_on(setup):
    """Return the names of the images of the first 24 draws."""
    batches = iter(training_batches(setup, 0))
    return {Path(image["file_name"]).name for _ in range(12) for image in next(batches)}


def test_the_record_tells_the_images_of_a_share_and_the_share(tiny, tmp_path):
    whole, half, quarter = (
        prepare(tiny("out", "train.workers=0", *more))
        for more in ([], ["data.train_share=0.5"], ["data.train_share=0.25"])
    )
    names = [trained_on(setup) for setup in (whole, half, quarter)]
    assert [len(found) for found in names] == [12, 6, 3]
    assert names[2] < names[1] < names[0]
    said = protocols(half).train
    assert said["data"]["images"] == 6
    assert said["train_share"] == 0.5
    assert "train_share" not in protocols(whole).train  # hashes of other runs do not move
    assert origin_of(half).get("train")["train_share"] == [None, 0.5]

    # a file that holds the same images alone is the same list
    content = json.loads(whole.train.json_file.read_text())
    content["images"] = [i for i in content["images"] if i["file_name"] in names[1]]
    ids = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in ids]
    path = tmp_path / "half.json"
    path.write_text(json.dumps(content))
    by_hand = prepare(tiny("out", f"data.train_json={path}"))
    assert protocols(by_hand).train["data"] == said["data"]


def test_a_run_is_not_resumed_on_another_share(tiny):
    whole, half = (identity_of(prepare(tiny("out", *m))) for m in ([], ["data.train_share=0.5"]))
    assert whole["protocol"] != half["protocol"]
    assert "train_share" not in json.dumps(whole)
