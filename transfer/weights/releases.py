"""The official releases by name: where to get a file, and where to put it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

from pretrain.files.lineage import Lineage, read_stages
from pretrain.files.read import WeightsError
from pretrain.run.options import did_you_mean

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
MANIFEST = CONFIGS / "weights.json"
SEGMENTORS = CONFIGS / "released_segmentors.json"
FOLDER = Path("weights")  # where downloaded files are looked for


@dataclass(frozen=True)
class Release:
    """One released file. `sha256` is "unknown" until somebody has verified a download."""

    name: str
    file: str
    url: str | None
    arch: str
    method: str
    stages: Lineage
    source: str
    layout: str  # the key the state dict lies under; "flat" at the top
    sha256: str
    named_in: str
    note: str = ""


@dataclass(frozen=True)
class ReleasedSegmentor:
    """One released segmentor; `published` are its authors' figures on ADE20K, in percent."""

    name: str
    file: str
    url: str | None
    published: dict[str, float]
    sha256: str
    named_in: str
    note: str = ""


AnyRelease = TypeVar("AnyRelease", Release, ReleasedSegmentor)


@cache
def releases(path: Path = MANIFEST) -> dict[str, Release]:
    """Return the manifest by name."""
    entries = json.loads(path.read_text())["releases"]
    listed = (Release(**{**entry, "stages": read_stages(entry["stages"])}) for entry in entries)
    return {release.name: release for release in listed}


@cache
def segmentors(path: Path = SEGMENTORS) -> dict[str, ReleasedSegmentor]:
    """Return the manifest of whole segmentors by name."""
    listed = (ReleasedSegmentor(**entry) for entry in json.loads(path.read_text())["segmentors"])
    return {release.name: release for release in listed}


def find(name_or_path: str, folder: Path = FOLDER) -> tuple[Path, Release | None]:
    """Find the file of a release by its name, or a path and the release with that file name.

    Raises FileNotFoundError that says where to get the file and where to put it.
    """
    return _find(name_or_path, releases(), MANIFEST, folder)


def find_segmentor(
    name_or_path: str, folder: Path = FOLDER
) -> tuple[Path, ReleasedSegmentor | None]:
    """Find the file of a released segmentor, as `find` does."""
    return _find(name_or_path, segmentors(), SEGMENTORS, folder)


def _find(
    name_or_path: str, known: Mapping[str, AnyRelease], manifest: Path, folder: Path
) -> tuple[Path, AnyRelease | None]:
    release = known.get(name_or_path)
    if release is None:
        path = Path(name_or_path)
        release = next((r for r in known.values() if r.file == path.name), None)
        if path.exists() or path.is_symlink():
            return path, release
        if release is None:
            raise FileNotFoundError(
                f"{name_or_path} is neither a file nor one of the {len(known)} releases of "
                f"configs/{manifest.name}{did_you_mean(name_or_path, known, count=3)}"
            )
        raise FileNotFoundError(_how_to_get(release, path))
    path = folder / release.file
    if not path.is_file():
        raise FileNotFoundError(_how_to_get(release, path))
    return path, release


def release_of(path: Path, sha256: str) -> Release | None:
    """Return the release that a file is: by its SHA-256, or by its name if the SHA-256 may be."""
    known = releases().values()
    same = next((r for r in known if r.sha256 == sha256), None)
    if same is not None:
        return same
    return next((r for r in known if r.file == path.name and r.sha256 == "unknown"), None)


def require_expected_hash(
    release: Release | ReleasedSegmentor | None, path: Path, sha256: str
) -> None:
    """Raise WeightsError if the file's hash is not the one in the manifest."""
    if release is not None and release.sha256 not in ("unknown", sha256):
        raise WeightsError(
            f"{path}: its SHA-256 is {sha256}, the manifest has {release.sha256} for "
            f"{release.name}; get the file again from {release.url}"
        )


def _how_to_get(release: Release | ReleasedSegmentor, path: Path) -> str:
    where = f"get it from {release.url}" if release.url else "no link to it is stated"
    note = f" ({release.note})" if release.note else ""
    return (
        f"{release.name} is not there: {where}{note}, named in {release.named_in}, and put it at "
        f"{path}"
    )
