"""Checks of COCO-format instances before a run: each finding comes with its fix.

Without `full`, annotations are read whole and files only listed; with it every image is decoded.
"""

import filecmp
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pretrain.checks.findings import Finding, Findings
from pretrain.checks.images import ImageFacts, read_images
from transfer.datasets.coco_file import Contents, Inspect, Mask, NotCocoError, read_contents
from transfer.datasets.ids import id_problem
from transfer.datasets.instance_checks import Units, check_annotation
from transfer.datasets.share import coco_share

# COCO 2017 (cocodataset.org): images and instances of each split
COCO2017 = {"train2017": (118_287, 860_001), "val2017": (5_000, 36_781)}
COCO_CATEGORIES = 80


@dataclass(frozen=True)
class CocoSplit:
    """One annotation file and its folder of images, of which a share may be all that is used."""

    name: str  # "train", "val"
    annotations: Path
    images: Path
    share: float = 1.0


@dataclass
class _Loaded:
    """A split's file, indexed. `files` maps a file's path to its image record.

    `contents` is the split's share; `listed` counts images and annotations of the whole file.
    """

    split: CocoSplit
    contents: Contents
    listed: tuple[int, int]
    images: dict[Any, dict[str, Any]]
    categories: dict[Any, str]
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    facts: list[ImageFacts] = field(default_factory=list)


def coco2017(root: Path | str) -> list[CocoSplit]:
    """Return the splits below `root` or `root`/coco: annotations/instances_{train,val}2017.json."""
    root = Path(root)
    if not (root / "annotations").is_dir() and (root / "coco").is_dir():
        root = root / "coco"
    return [
        CocoSplit(name, root / "annotations" / f"instances_{name}.json", root / name)
        for name in COCO2017
    ]


def check_coco(
    splits: Sequence[CocoSplit],
    *,
    full: bool = False,
    workers: int = 1,
    progress: bool = False,
    contents: dict[str, Contents] | None = None,
) -> list[Finding]:
    """Return everything wrong with `splits` (training split first), errors first.

    `contents` is filled with what was read, by the split's name: each file is read only once.
    """
    findings = Findings()
    loaded = [_load(split, findings) for split in splits]
    found = [data for data in loaded if data is not None]
    for data in found:
        if contents is not None:
            contents[data.split.name] = data.contents
        _check_files(data, findings)
        _check_references(data, findings)
        _check_counts(data, findings)
        if full:
            title = f"{data.split.name} images" if progress else None
            data.facts = read_images(list(data.files), workers=workers, progress=title)
            _check_pixels(data, findings)
    for other in found[1:]:
        _check_pair(found[0], other, findings)
    return findings.all()


def _load(split: CocoSplit, findings: Findings) -> _Loaded | None:
    path, units = split.annotations, Units()

    def inspect(annotation: dict[str, Any], image: dict[str, Any]) -> None:
        where = f"{path} annotation {annotation.get('id')}"
        units.note(annotation)
        check_annotation(annotation, image["width"], image["height"], where, findings)

    try:
        contents = read_contents(path, inspect if split.share == 1 else None)
    except FileNotFoundError:
        fix = "give the right path, or put the annotation file there"
        findings.error("annotations-missing", path, "no such file", fix)
        return None
    except NotCocoError as error:
        fix = "export COCO instances: {images: [...], annotations: [...], categories: [...]}"
        findings.error("annotations-format", path, str(error), fix)
        return None
    except ValueError as error:
        fix = "copy the file again: it is truncated or not JSON"
        findings.error("annotations-unreadable", path, str(error), fix)
        return None
    if contents.without_id:
        where = f"{path} annotations[{contents.without_id[0]}]"
        findings.error("annotations-format", where, "it has no id", "number the annotations")
        return None
    if not _check_ids(contents, findings):
        return None
    for name, code, ids in (
        ("images", "image-id-twice", [r["id"] for r in contents.images]),
        ("annotations", "annotation-id-twice", contents.ids),
        ("categories", "category-id-twice", [r["id"] for r in contents.categories]),
    ):
        _check_unique(split, name, code, ids, findings)
    for name, times in Counter(str(r["name"]) for r in contents.categories).items():
        if times > 1:  # figures by class would be mixed up
            fix = "give each category a name of its own, or merge their ids"
            findings.error("category-name-twice", f"{path} {name!r}", f"{times} categories", fix)
    listed = len(contents.images), len(contents.ids)
    if split.share < 1:
        contents = coco_share(contents, split.share)
        _inspect_all(contents, inspect)
    units.check(path, findings)
    return _Loaded(
        split,
        contents,
        listed,
        images={r["id"]: r for r in contents.images},
        categories={r["id"]: str(r["name"]) for r in contents.categories},
    )


def _inspect_all(contents: Contents, inspect: Inspect) -> None:
    """Let `inspect` see every annotation of a known image."""
    by_id = {image["id"]: image for image in contents.images}
    for image, annotation in zip(contents.image_ids, contents.annotations(), strict=True):
        if image in by_id:
            inspect(annotation, by_id[image])


def _check_ids(contents: Contents, findings: Findings) -> bool:
    """Return whether every id, and every reference to one, is usable."""
    problems = contents.id_problems()
    own = id_problem(contents.ids)
    if own:
        problems.append(("annotations", "id", own))
    for name, key, problem in problems:
        where = f"{contents.path} {name} {key}"
        findings.error("id-invalid", where, problem, "number them: COCO's ids are integers")
    return not problems


def _check_unique(
    split: CocoSplit, name: str, code: str, ids: list[Any], findings: Findings
) -> None:
    if len(set(ids)) == len(ids):
        return
    for key, times in Counter(ids).items():
        if times > 1:
            where = f"{split.annotations} {name} id {key}"
            findings.error(code, where, f"used {times} times", f"number the {name} without repeats")


def _check_files(data: _Loaded, findings: Findings) -> None:
    folder = data.split.images
    if not data.images:
        fix = "use an annotation file that lists images"
        findings.error("no-images", data.split.annotations, "it lists no image", fix)
    if not folder.is_dir():
        fix = "give the right folder, or unpack the images there"
        findings.error("folder-missing", folder, "no such folder", fix)
        return
    present = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    for record in data.images.values():
        path = str(folder / record["file_name"])
        if Path(record["file_name"]).is_absolute():
            fix = f"write file_name as it is below {folder}"
            findings.error("image-missing", path, "file_name is not below the folder", fix)
        elif str(record["file_name"]) not in present:
            fix = (
                f"copy the file there, or take image {record['id']} out of {data.split.annotations}"
            )
            findings.error("image-missing", path, "listed, but there is no such file", fix)
        elif path in data.files:
            message = f"image ids {data.files[path]['id']} and {record['id']} name the same file"
            findings.error("image-twice", path, message, "merge the two image records")
        else:
            data.files[path] = record


def _check_references(data: _Loaded, findings: Findings) -> None:
    contents = data.contents
    for key, image, category in zip(
        contents.ids, contents.image_ids, contents.category_ids, strict=True
    ):
        where = f"{data.split.annotations} annotation {key}"
        if key == 0:  # renumbered where this suite reads it
            message = "COCO's evaluation takes ground truth with id 0 for unmatched"
            findings.warning("annotation-id-zero", where, message, "number annotations from 1")
        if category not in data.categories:
            message = f"category {category!r} is not in the categories"
            fix = "add it to the categories or correct the annotation"
            findings.error("category-unknown", where, message, fix)
        if image not in data.images:
            message = f"image {image!r} is not in the images"
            fix = "add the image's record or delete the annotation"
            findings.error("image-unknown", where, message, fix)


def _check_counts(data: _Loaded, findings: Findings) -> None:
    path = data.split.annotations
    expected = COCO2017.get(data.split.images.name)
    names = set(data.categories.values())
    is_coco = len(names) == COCO_CATEGORIES and {"person", "toothbrush"} <= names
    if expected and is_coco and data.listed != expected:
        message = "{:,} images and {:,} instances, COCO 2017 has {:,} and {:,}"
        fix = f"download {data.split.images.name} and its annotations again, or allow `counts`"
        findings.error("counts", path, message.format(*data.listed, *expected), fix)
    objects = zip(data.contents.crowd, data.contents.masks, strict=True)
    if all(crowd or mask == Mask.BROKEN for crowd, mask in objects):
        message = (
            "it has no object but crowds and those without a polygon of three points: there is "
            "nothing to learn or to judge by"
        )
        findings.error("no-objects", path, message, "export the annotations again")
    used = Counter(data.contents.category_ids)
    for key, name in data.categories.items():
        if not used[key]:
            fix = "leave the category out, or expect no figure for it"
            findings.warning("category-unused", path, f"no instance of {name!r} (id {key})", fix)


def _check_pixels(data: _Loaded, findings: Findings) -> None:
    for facts in data.facts:
        record = data.files[facts.path]
        stated = (record["width"], record["height"])
        if facts.problem:
            fix = f"copy it again, or take image {record['id']} out of {data.split.annotations}"
            findings.error("image-unreadable", facts.path, facts.problem, fix)
        elif stated != (facts.width, facts.height):
            message = (
                f"{facts.width}x{facts.height} pixels, the annotations say {stated[0]}x{stated[1]}"
            )
            fix = "correct width and height in the annotations, or put the right image there"
            findings.error("image-size", facts.path, message, fix)


def _check_pair(train: _Loaded, val: _Loaded, findings: Findings) -> None:
    if train.categories != val.categories:
        message = f"other categories than {train.split.annotations}: {_difference(train, val)}"
        fix = "use one list of categories, with the same ids, in both files"
        findings.error("categories-differ", val.split.annotations, message, fix)
    names = {Path(path).name: path for path in train.files}
    digests = {f.digest: f.path for f in train.facts if f.digest}
    digest_of = {f.path: f.digest for f in val.facts}
    for path in val.files:
        twin = names.get(Path(path).name)
        if twin is None or not _same_bytes(twin, path):
            twin = digests.get(digest_of.get(path, ""))
        if twin:
            fix = "take the image out of one of the splits"
            findings.error("split-overlap", path, f"the same image as {twin}", fix)


def _same_bytes(first: str, second: str) -> bool:
    try:
        return filecmp.cmp(first, second, shallow=False)
    except OSError:
        return False


def _difference(train: _Loaded, val: _Loaded) -> str:
    only_train = sorted(map(str, train.categories.items() - val.categories.items()))[:3]
    only_val = sorted(map(str, val.categories.items() - train.categories.items()))[:3]
    return f"only there {only_train}, only here {only_val}"
