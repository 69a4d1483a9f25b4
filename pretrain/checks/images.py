"""Are these files images that can be read? Found out before training, not hours into it."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from pretrain.checks.findings import Finding, Findings
from pretrain.checks.parallel import parallel_map

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})


SMALLEST_PX = 32


@dataclass(frozen=True)
class ImageFacts:
    """One file as it was found; width and height in pixels, after EXIF rotation."""

    path: str
    width: int = 0
    height: int = 0
    mode: str = ""
    digest: str = ""  # of the file's bytes; only where they were all read
    problem: str = ""  # empty where the file reads


def image_facts(path: str, decode: bool) -> ImageFacts:
    """Open `path`; with `decode` read every pixel as well, else the header and the end marker."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            if image.getexif().get(0x0112, 1) in (5, 6, 7, 8):  # rotated by a quarter turn
                width, height = height, width
            mode = image.mode
            if decode or not _ends_well(path, image.format):
                image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return ImageFacts(path, problem=_reason(path, error))
    digest = hashlib.blake2b(Path(path).read_bytes(), digest_size=16).hexdigest() if decode else ""
    return ImageFacts(path, width, height, mode, digest)


def _ends_well(path: str, image_format: str | None) -> bool:
    """Whether a JPEG or PNG ends with its end marker; other formats have to be decoded."""
    endings = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
    if image_format not in endings:
        return False
    with Path(path).open("rb") as handle:
        handle.seek(-min(16, os.fstat(handle.fileno()).st_size), os.SEEK_END)
        return handle.read().endswith(endings[image_format])


def _reason(path: str, error: Exception) -> str:
    file = Path(path)
    if not file.is_file():
        return "the file does not exist"
    if file.stat().st_size == 0:
        return "the file is empty"
    return str(error).split(" '/")[0] or type(error).__name__


def read_images(
    paths: Sequence[Path | str],
    *,
    decode: bool = True,
    workers: int = 1,
    progress: str | None = None,
) -> list[ImageFacts]:
    """Facts of every file, in order. Half a millisecond an image without `decode`."""
    names = [str(p) for p in paths]
    reader = partial(image_facts, decode=decode)
    return list(parallel_map(reader, names, workers=workers, progress=progress))


def check_images(
    paths: Sequence[Path | str],
    *,
    decode: bool = True,
    workers: int = 1,
    progress: str | None = None,
) -> list[Finding]:
    """Check files to pretrain on; errors: image-unreadable, no-images."""
    findings = Findings()
    if not paths:
        findings.error("no-images", "the list", "it holds no image", f"expected {_kinds()} files")
    first: dict[str, str] = {}
    for facts in read_images(paths, decode=decode, workers=workers, progress=progress):
        _check_facts(facts, findings)
        if facts.digest and first.setdefault(facts.digest, facts.path) != facts.path:
            message = f"the same bytes as {first[facts.digest]}"
            findings.warning("image-twice", facts.path, message, "delete one of the two")
    return findings.all()


def _check_facts(facts: ImageFacts, findings: Findings) -> None:
    if facts.problem:
        fix = f"copy it again or delete it: rm '{facts.path}'"
        findings.error("image-unreadable", facts.path, facts.problem, fix)
    elif min(facts.width, facts.height) < SMALLEST_PX:
        size = f"{facts.width}x{facts.height} pixels"
        findings.warning(
            "image-small", facts.path, size, "leave it out: crops are enlarged from it"
        )
    elif facts.mode.startswith(("I", "F")):
        fix = "convert it to 8 bits a channel: values above 255 are clipped when read as RGB"
        findings.warning("image-depth", facts.path, f"{facts.mode} pixels", fix)


def check_image_folder(
    root: Path | str, *, decode: bool = True, workers: int = 1, progress: str | None = None
) -> list[Finding]:
    """Check every image below `root`, at any depth; class folders are not needed."""
    root = Path(root)
    findings = Findings()
    if not root.is_dir():
        findings.error("folder-missing", root, "no such folder", "give the folder of images")
        return findings.all()
    files = sorted(p for p in root.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    if not files:
        findings.error("no-images", root, "no image below it", f"expected {_kinds()} files")
        return findings.all()
    return check_images(files, decode=decode, workers=workers, progress=progress)


def _kinds() -> str:
    return " ".join(sorted(IMAGE_SUFFIXES))
