"""Which images can be read: by the data check, and before training where that is asked for."""

import os
from functools import partial
from pathlib import Path

import numpy as np

from pretrain.checks.findings import Finding, Findings, refuse_errors
from pretrain.checks.images import check_images
from pretrain.checks.parallel import parallel_map
from pretrain.data.sources import Files, Images, open_images
from pretrain.files.image import UNKNOWN_RANGE, inspect


def problems(
    images: Images, decode: bool, workers: int, progress: str | None = None
) -> dict[int, str]:
    """Return what is wrong with which image; only headers and end markers without `decode`."""
    found = parallel_map(
        partial(_problem, images, decode), range(len(images)), workers=workers, progress=progress
    )
    return {i: problem for i, problem in enumerate(found) if problem}


def _problem(images: Images, decode: bool, index: int) -> str:
    try:
        with images.open(index) as stream:
            if not stream.seek(0, os.SEEK_END):
                return "the file is empty"
            stream.seek(0)
            if inspect(stream, decode).bits == 32:
                return UNKNOWN_RANGE
    except FileNotFoundError:
        return "the file does not exist"
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def check_images_at(
    path: Path | str, *, decode: bool = True, workers: int = 1, progress: str | None = None
) -> list[Finding]:
    """Check what pretraining reads at `path`: a folder at any depth, a list, or shards.

    Errors: folder-missing, no-images, image-unreadable, image-depth.
    """
    findings = Findings()
    try:
        images = open_images(path, workers)
    except FileNotFoundError as error:
        findings.error("folder-missing", path, str(error), "give the folder of images")
        return findings.all()
    except ValueError as error:
        findings.error("no-images", path, str(error), "give a folder or list of images, or shards")
        return findings.all()
    if isinstance(images, Files):
        names = [images.name(i) for i in range(len(images))]
        return check_images(names, decode=decode, workers=workers, progress=progress)
    for index, problem in problems(images, decode, workers, progress).items():
        fix = "write the shard again without it, or leave it out with --skip-unreadable"
        findings.error("image-unreadable", images.name(index), problem, fix)
    return findings.all()


def readable(
    images: Images, *, skip: bool, workers: int, progress: str | None = None
) -> tuple[Images, list[str]]:
    """Return the images that can be read, and the relative names of those left out.

    With `skip`, every image is decoded once. Without it, only headers and end markers are read
    (0.5 ms each). Raises ValueError with the unreadable images unless `skip` is set.
    """
    found = problems(images, skip, workers, progress)
    if not found:
        return images, []
    if not skip:
        findings = Findings()
        for index, problem in found.items():
            fix = "copy it again, delete it, or leave it out with --skip-unreadable"
            findings.error("image-unreadable", images.name(index), problem, fix)
        refuse_errors(findings.all())
    names = [images.relative_name(i) for i in found]
    if len(names) == len(images):
        raise ValueError(f"not one of {len(names)} images can be read, e.g. {names[0]}")
    keep = np.ones(len(images), dtype=bool)
    keep[list(found)] = False
    return images.subset(keep), names


def without(images: Images, names: list[str]) -> Images:
    """Return the images but those of the relative names given."""
    if not names:
        return images
    left_out = set(names)
    keep = [images.relative_name(i) not in left_out for i in range(len(images))]
    return images.subset(np.array(keep))
