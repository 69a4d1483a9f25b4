"""The official releases by name: found in a folder, else fetched, and held to their hashes.

A file whose SHA-256 no manifest knows is held to that of its first use, in FILE.sha256.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pretrain.files.encoder_file import EncoderIdentity
from pretrain.files.lineage import Lineage, read_stages, write_stages
from pretrain.files.read import WeightsError, file_format, sha256_of
from pretrain.files.write import atomic_write
from pretrain.run.options import did_you_mean
from transfer.weights.download import DownloadError, download

logger = logging.getLogger(__name__)

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
MANIFEST = CONFIGS / "weights.json"
SEGMENTORS = CONFIGS / "released_segmentors.json"
CLASSIFIERS = CONFIGS / "released_classifiers.json"
# where released files are looked for, and put
FOLDER = Path(os.environ.get("MIM_TRANSFER_WEIGHTS") or "weights")
OFFLINE = "HF_HUB_OFFLINE"  # Hugging Face's setting, and timm's: nothing is ever fetched
HUGGING_FACE = "https://huggingface.co"
_fetching = ContextVar("fetching", default=True)


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
    mirrors: tuple[str, ...] = ()  # further addresses of the same bytes


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
    mirrors: tuple[str, ...] = ()
    started_from: str | None = None  # the release whose lineage the encoder had before


@dataclass(frozen=True)
class PublishedTop:
    """The published accuracies on ImageNet-1K, in percent, of a release that is a classifier.

    crop_pct and interpolation are those of the test where it is not the family's.
    """

    name: str  # of the release
    published: dict[str, float]
    named_in: str
    crop_pct: float | None = None
    interpolation: str | None = None


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


def report_of(
    file: str,
    layout: str,
    sha256: str,
    identity: EncoderIdentity,
    release: ReleasedSegmentor | None,
) -> tuple[dict[str, Any], Lineage]:
    """Return what a record says of the file of a whole model, and its stages before the task.

    The stages are those of the release that the model started from, where that is known.
    """
    start = releases().get(release.started_from or "") if release else None
    stages = start.stages if start else identity.stages
    told = {**asdict(identity), "stages": write_stages(stages)}
    return {"file": file, "sha256": sha256, "source": layout, "identity": told}, stages


@contextmanager
def nothing_fetched() -> Iterator[None]:
    """Let `find` fetch nothing: a run that only says what it would do downloads no file."""
    token = _fetching.set(False)
    try:
        yield
    finally:
        _fetching.reset(token)


def place_of(name_or_path: str | Path) -> Path:
    """Return where the file of `weights=` lies or will: a path is as it is."""
    release = releases().get(str(name_or_path))
    path = Path(name_or_path)
    return path if release is None or path.exists() else FOLDER / release.file


def located(name_or_path: str | Path) -> Path:
    """Return the file of `weights=`: a path as it is, of a name what `find` finds."""
    path = place_of(name_or_path)
    return path if path == Path(name_or_path) else find(str(name_or_path), FOLDER)[0]


def find(name_or_path: str, folder: Path = FOLDER) -> tuple[Path, Release | None]:
    """Find the file of a release by its name, or a path and the release with that file name.

    The file of a name is fetched where it is not in `folder` and there is a network. Raises
    FileNotFoundError that says where to get the file and where to put it, WeightsError where it is
    not the file of the manifest or of its first use.
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
        _fetch(release, path)
    _hold(release, path)
    return path, release


def _fetch(release: AnyRelease, path: Path) -> None:
    """Fetch a release. Raises FileNotFoundError that says how to get it by hand."""
    if not _fetching.get():
        raise FileNotFoundError(_how_to_get(release, path))
    if os.environ.get(OFFLINE, "").upper() in ("1", "ON", "YES", "TRUE"):
        raise FileNotFoundError(f"{_how_to_get(release, path)} ({OFFLINE} is set)")

    def check(part: Path) -> None:
        file_format(part)
        require_expected_hash(release, part, sha256_of(part))

    try:
        download(_addresses(release), path, check)
    except DownloadError as error:
        reason = f" (tried: {error})" if str(error) else ""
        raise FileNotFoundError(f"{_how_to_get(release, path)}{reason}") from None


def _addresses(release: AnyRelease) -> list[str]:
    """Return where a release may lie, in order; HF_ENDPOINT names a mirror of Hugging Face."""
    stated = [address for address in (release.url, *release.mirrors) if address]
    hub = os.environ.get("HF_ENDPOINT", HUGGING_FACE).rstrip("/")
    return [f"{hub}{a[len(HUGGING_FACE) :]}" if a.startswith(HUGGING_FACE) else a for a in stated]


def _hold(release: AnyRelease, path: Path) -> None:
    """Raise WeightsError for another file than the manifest's, or than that of the first use."""
    sha256, record = sha256_of(path), path.with_name(f"{path.name}.sha256")
    require_expected_hash(release, path, sha256)
    if release.sha256 != "unknown":
        return
    first = record.read_text().split()[:1] if record.is_file() else []
    if not first:
        try:
            atomic_write(record, lambda p: p.write_text(f"{sha256}  {path.name}\n"))
        except OSError as error:  # a folder that others keep
            logger.info("%s is not written: %s", record, error.strerror)
    elif first != [sha256]:
        raise WeightsError(
            f"{path}: its SHA-256 is {sha256}, at its first use it was {first[0]} ({record}): get "
            f"the file again from {release.url}, or remove {record} if the new file is right"
        )


@cache
def classifiers(path: Path = CLASSIFIERS) -> dict[str, PublishedTop]:
    """Return the releases that are classifiers, with their figures, by name."""
    return {row["name"]: PublishedTop(**row) for row in json.loads(path.read_text())["classifiers"]}


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
