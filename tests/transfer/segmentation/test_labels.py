"""ADE20K's label offset: 0 is ignored, k is class k - 1, applied once and undone once."""

import numpy as np
import pytest
import torch
from PIL import Image

from transfer.segmentation.data import LabelledImages
from transfer.segmentation.iou import count_pixels, figures
from transfer.segmentation.labels import LoadLabels, read_labels, to_classes, to_labels

# A label file by hand: 0 = other, 1..150 = the classes, 255 = ignored.
FILE = np.array([[0, 1, 2, 3], [150, 255, 1, 0]], np.uint8)
CLASSES = np.array([[255, 0, 1, 2], [149, 255, 0, 255]], np.uint8)


def results(path, offset, classes=150):
    return {
        "seg_map_path": str(path),
        "reduce_zero_label": offset,
        "num_classes": classes,
        "seg_fields": [],
    }


def test_offset_by_hand():
    assert np.array_equal(to_classes(FILE, reduce_zero_label=True), CLASSES)
    assert np.array_equal(to_classes(FILE, reduce_zero_label=False), FILE)
    assert np.array_equal(FILE[0], [0, 1, 2, 3])  # the file's array is left alone
    valid = CLASSES != 255
    assert np.array_equal(to_labels(CLASSES, reduce_zero_label=True)[valid], FILE[valid])


def test_the_offset_is_applied_once(tmp_path):
    Image.fromarray(FILE).save(tmp_path / "a.png")
    loaded = LoadLabels()(results(tmp_path / "a.png", offset=True))
    assert np.array_equal(loaded["gt_seg_map"], CLASSES)
    with pytest.raises(ValueError, match="twice"):
        LoadLabels()(loaded)


def test_mmsegmentation_agrees(tmp_path):
    from mmseg.datasets.transforms import LoadAnnotations

    Image.fromarray(FILE).save(tmp_path / "a.png")
    theirs = LoadAnnotations()(results(tmp_path / "a.png", offset=True))
    assert np.array_equal(theirs["gt_seg_map"], CLASSES)


def test_palette_images_give_indices_and_pictures_are_refused(tmp_path):
    palette = Image.fromarray(FILE % 4).convert("P")
    palette.putdata((FILE % 4).ravel().tolist())
    palette.putpalette([200, 10, 10, 10, 200, 10, 10, 10, 200, 9, 9, 9])
    palette.save(tmp_path / "p.png")
    assert np.array_equal(read_labels(tmp_path / "p.png"), FILE % 4)
    Image.new("RGB", (4, 2)).save(tmp_path / "rgb.png")
    with pytest.raises(ValueError, match="RGB picture"):
        read_labels(tmp_path / "rgb.png")


@pytest.mark.parametrize(("offset", "classes", "worst"), [(True, 149, 150), (False, 150, 150)])
def test_a_label_beyond_the_classes_is_refused_as_the_file_has_it(tmp_path, offset, classes, worst):
    Image.fromarray(FILE).save(tmp_path / "a.png")
    with pytest.raises(
        ValueError, match=rf"a\.png holds the label {worst}, but there are {classes}"
    ):
        LoadLabels()(results(tmp_path / "a.png", offset, classes))


def test_figures_by_hand():
    truth = torch.tensor([[255, 0, 0, 1], [1, 1, 2, 255]])
    predicted = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 2]])
    counts = count_pixels(predicted, truth, classes=4)
    assert counts.tolist() == [[1, 3, 0, 0], [1, 5, 0, 0], [2, 3, 1, 0]]
    means, table = figures(counts)
    # class 0: 1 of 2 united; class 1: 3 of 5; class 2: 0 of 1; class 3 appears nowhere
    assert means["mIoU"] == pytest.approx(100 * (1 / 2 + 3 / 5 + 0) / 3, abs=1e-9)
    assert means["mAcc"] == pytest.approx(100 * (1 / 2 + 1 + 0) / 3, abs=1e-9)
    assert means["aAcc"] == pytest.approx(100 * 4 / 6, abs=1e-9)
    assert table["IoU"][:3] == pytest.approx([50, 60, 0])
    assert np.isnan(table["IoU"][3])


def test_figures_agree_with_mmsegmentation():
    from mmseg.evaluation import IoUMetric

    rng = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 7, (5, 40, 30), generator=rng)
    predicted = torch.where(truth % 2 == 0, truth, torch.randint(0, 7, truth.shape, generator=rng))
    truth[truth == 6] = 255
    theirs = [
        IoUMetric.intersect_and_union(p, t, 7, 255) for p, t in zip(predicted, truth, strict=True)
    ]
    areas = [sum(a) for a in zip(*theirs, strict=True)]
    reference = IoUMetric.total_area_to_metrics(*areas)
    ours, table = figures(sum(count_pixels(p, t, 7) for p, t in zip(predicted, truth, strict=True)))
    assert ours["aAcc"] == pytest.approx(100 * float(reference["aAcc"]), rel=1e-6)
    assert np.allclose(table["IoU"], 100 * reference["IoU"], rtol=1e-6, equal_nan=True)
    assert np.allclose(table["Acc"], 100 * reference["Acc"], rtol=1e-6, equal_nan=True)


def test_the_data_set_hands_the_offset_to_the_loader_alone(tmp_path):
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    Image.new("RGB", (4, 2)).save(tmp_path / "images/a.jpg")
    Image.fromarray(FILE).save(tmp_path / "labels/a.png")
    names = [f"class {i}" for i in range(150)]
    data = LabelledImages(
        str(tmp_path),
        "images",
        "labels",
        names,
        reduce_zero_label=True,
        pipeline=[LoadLabels()],
    )
    assert np.array_equal(data[0]["gt_seg_map"], CLASSES)
    assert data.label_map is None
