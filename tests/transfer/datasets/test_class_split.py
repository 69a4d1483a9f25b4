"""Labelled images in every form they have on disk, and the checks of them."""

import io
import json
import pickle
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pretrain.data.reading import read_image
from transfer.datasets.class_checks import check_classes, check_splits
from transfer.datasets.class_split import open_split

COLORS = {"n01440764": (250, 10, 10), "n01443537": (10, 250, 10), "n10565667": (10, 10, 250)}
COUNTS = {"train": 4, "val": 2}


def image_bytes(color: tuple[int, int, int], i: int = 0) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (40 + i, 36), color).save(stream, "png")
    return stream.getvalue()


def write_tree(root: Path) -> Path:
    for split, count in COUNTS.items():
        for name, color in COLORS.items():
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                path = root / split / name / f"{split}_{name}_{i}.png"
                path.write_bytes(image_bytes(color, i + 10 * (split == "val")))
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "imagenet")


def assert_labelled(root: Path, split: str, classes: tuple[str, ...], count: int) -> None:
    """The colour of every image is its label's."""
    found = open_split(root, split)
    assert (found.classes, len(found)) == (classes, count)
    colors = list(COLORS.values())
    for i in range(len(found)):
        color = read_image(found.images, i).getpixel((5, 5))
        assert np.argmax(color) == np.argmax(colors[found.labels[i]]), found.images.name(i)


@pytest.mark.parametrize("split", ["train", "val"])
def test_class_folders(tree, split):
    assert_labelled(tree, split, tuple(COLORS), 3 * COUNTS[split])


def test_lists(tree):
    names = sorted(p.relative_to(tree) for p in tree.glob("train/*/*.png"))
    rows = [f"{name},{name.parent.name}" for name in names]
    (tree / "train.csv").write_text("\n".join(["path,class", *rows, ""]))
    assert_labelled(tree, "train", tuple(COLORS), 12)
    (tree / "train.csv").unlink()
    (tree / "classes.txt").write_text("\n".join(COLORS))
    numbers = [f"{name} {list(COLORS).index(name.parent.name)}" for name in names]
    (tree / "train.txt").write_text("\n".join(numbers))
    assert_labelled(tree, "train", tuple(COLORS), 12)
    (tree / "train.txt").write_text("no_class.png\n")
    with pytest.raises(ValueError, match=r"train\.txt, line 1: expected a path and a class"):
        open_split(tree, "train")


@pytest.mark.parametrize("numbered", [True, False])
def test_shards(tmp_path, numbered):
    """Members of webdataset: a class beside each image; or folders as in ImageNet's own tars."""
    folder = tmp_path / "data" / "train"
    folder.mkdir(parents=True)
    for shard in range(2):
        with tarfile.open(folder / f"{shard:06}.tar", "w") as archive:
            for i, (name, color) in enumerate(COLORS.items()):
                stem = f"{shard}{i}" if numbered else f"{name}/{shard}"
                members = {f"{stem}.png": image_bytes(color)}
                members |= {f"{stem}.cls": str(i).encode()} if numbered else {}
                for member, content in members.items():
                    info = tarfile.TarInfo(member)
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
    classes = ("0", "1", "2") if numbered else tuple(COLORS)
    assert_labelled(tmp_path / "data", "train", classes, 6)


def cifar_rows(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 3072) of one colour each, channel by channel as CIFAR has them, and labels."""
    labels = np.arange(count) % 3
    pixels = np.stack([np.repeat(np.uint8(list(COLORS.values())[i]), 1024) for i in labels])
    return pixels, labels


def write_cifar(root: Path, kind: str, packed: bool) -> Path:
    """Write CIFAR-100's archive with few images and classes."""
    folder = root / f"cifar-100-{kind}"
    folder.mkdir(parents=True)
    for name, count in (("train", 6), ("test", 3)):
        pixels, labels = cifar_rows(count)
        if kind == "binary":
            rows = np.concatenate([labels[:, None] * 0, labels[:, None], pixels], 1)
            (folder / f"{name}.bin").write_bytes(rows.astype(np.uint8).tobytes())
        else:
            content = {"data": pixels, "fine_labels": labels.tolist(), "filenames": ["a.png"]}
            (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    if kind == "binary":
        (folder / "fine_label_names.txt").write_text("\n".join(COLORS) + "\n\n")
    else:
        (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": list(COLORS)}, protocol=2))
    if packed:
        with tarfile.open(root / f"{folder.name}.tar.gz", "w:gz") as archive:
            archive.add(folder, folder.name)
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    return root


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kind", ["binary", "python"])
def test_cifar_100_as_published(tmp_path, kind, packed):
    root = write_cifar(tmp_path / "data", kind, packed)
    for split, count in (("train", 6), ("val", 3)):
        assert_labelled(root, split, tuple(COLORS), count)
    assert_labelled(next(root.iterdir()), "val", tuple(COLORS), 3)
    image = read_image(open_split(root, "val").images, 1)
    assert (image.size, image.getpixel((31, 0))) == ((32, 32), (10, 250, 10))


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "written"), "w"))

    root = write_cifar(tmp_path / "data", "python", packed=False)
    (root / "cifar-100-python" / "train").write_bytes(pickle.dumps({"data": Evil()}))
    with pytest.raises(ValueError, match=r"not CIFAR-100 as published: it asks to import .*open"):
        open_split(root, "train")
    assert not (tmp_path / "written").exists()


def test_objects_of_coco_images(tmp_path):
    root = tmp_path / "data" / "coco"
    (root / "annotations").mkdir(parents=True)
    (root / "train2017").mkdir()
    image = Image.new("RGB", (100, 60))
    image.paste((10, 250, 10), (70, 10, 100, 30))
    image.save(root / "train2017" / "000000000007.png")
    box = {"image_id": 7, "iscrowd": 0, "category_id": 5}
    content = {
        "images": [{"id": 7, "file_name": "000000000007.png", "width": 100, "height": 60}],
        "categories": [{"id": 5, "name": "green"}, {"id": 2, "name": "red"}],
        "annotations": [
            {**box, "id": 1, "bbox": [70.0, 10.0, 30.0, 20.0]},
            {**box, "id": 2, "bbox": [70.0, 10.0, 30.0, 20.0], "iscrowd": 1},
            {**box, "id": 3, "bbox": [5.0, 5.0, 3.0, 3.0]},  # too small to see
        ],
    }
    path = root / "annotations" / "instances_train2017.json"
    path.write_text(json.dumps(content))
    split = open_split(tmp_path / "data", "train")
    assert split.classes == ("red", "green")
    assert split.labels.tolist() == [1]
    crop = read_image(split.images, 0)
    assert crop.size == (38, 38)  # 1.25 times the longer side, moved into the image
    green = (np.asarray(crop)[..., 1] > 200).sum()
    assert green == 30 * 20
    assert split.labelled_names() == ["000000000007.png#1 green"]


def test_classes_are_numbered_as_the_classifiers(tree):
    classes = ("n10565667", "n01440764", "n01443537")
    split = open_split(tree, "val", classes)
    assert [split.classes[i] for i in split.labels] == [n for n in COLORS for _ in range(2)]
    (tree / "val" / "n01440764").rename(tree / "val" / "n01440765")
    with pytest.raises(ValueError, match="'n01440765'; did you mean 'n01440764'"):
        open_split(tree, "val", classes)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda root: (root / "val").rename(root / "validation"), "no val images"),
        (lambda root: (root / "val" / "x.png").write_bytes(b""), "lies in no class folder"),
    ],
)
def test_other_trees_are_refused(tree, spoil, told):
    spoil(tree)
    with pytest.raises((FileNotFoundError, ValueError), match=told):
        open_split(tree, "val")


def codes(root: Path, **options: object) -> dict[str, str]:
    findings, _ = check_classes(root, **options)  # type: ignore[arg-type]
    return {finding.code: f"{finding.where}: {finding.message}" for finding in findings}


def test_a_good_tree_has_no_finding(tree):
    findings, counts = check_classes(tree)
    assert [str(f) for f in findings if f.level == "error"] == []
    assert counts is not None
    assert counts.images == {"train": [4, 4, 4], "val": [2, 2, 2]}


def test_what_is_wrong_is_found(tree):
    first = next((tree / "train" / "n01440764").iterdir())
    copy = tree / "val" / "n01440764" / "copy.png"
    copy.write_bytes(first.read_bytes())
    (tree / "train" / "n01443537" / "cut.png").write_bytes(image_bytes((1, 2, 3))[:60])
    (tree / "train" / "n99999999").mkdir()
    (tree / "val" / "n10565667").rename(tree / "val" / "n10565668")
    found = codes(tree)
    assert "copy.png: the same bytes as" in found["split-overlap"]
    assert "cut.png" in found["image-unreadable"]
    assert "n99999999: the class folder is empty" in found["class-empty"]
    assert "did you mean 'n10565667'" in found["class-unknown"]
    known = codes(tree, dataset="imagenet_1k")
    assert "imagenet_1k has 1000" in known["class-count"]
    assert "imagenet_1k has 50,000" in known["image-count"]  # the last of two


def test_a_class_that_never_occurs_is_told(tree):
    (tree / "train.txt").write_text("a.png 0\nb.png 2\n")
    (tree / "val.txt").write_text("c.png 2\n")
    train = open_split(tree, "train")
    found = {f.code: f.where for f in check_splits(train, open_split(tree, "val", train.classes))}
    assert found == {"class-without-train": "1", "class-without-val": "1"}


def test_a_link_into_the_other_split_is_an_overlap_without_reading(tree):
    source = next((tree / "train" / "n01440764").iterdir())
    lines = [f"{source.relative_to(tree)} n01440764", "val/n01443537/x.png n01443537"]
    (tree / "val.txt").write_text("\n".join(lines))
    (tree / "train.txt").write_text(f"{lines[0]}\ntrain/n01443537/x.png n01443537\n")
    train = open_split(tree, "train")
    findings = check_splits(train, open_split(tree, "val", ("n01440764", "n01443537")))
    assert [f.code for f in findings if f.level == "error"] == ["split-overlap"]


def test_one_class_alone_is_refused(tree):
    for split in ("train", "val"):
        for name in list(COLORS)[1:]:
            shutil.rmtree(tree / split / name)
    train = open_split(tree, "train", None)
    found = [f for f in check_splits(train, None) if f.code == "class-count"]
    assert found[0].level == "error"
    assert "nothing to tell apart" in found[0].message
