"""What steps read from disk: weights and images, told by content or by names and sizes.

What imports torch is imported where it is used: jobs that only run steps start in a moment.
"""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from pretrain.files.find import THREADS, find_files
from pretrain.files.image import IMAGE_SUFFIXES
from transfer.suites.suite import Released

FILES_AT_ONCE = 1000  # looked at by a thread
MISSING = "missing"  # in a fingerprint: could not be looked at


@lru_cache(maxsize=256)
def content_digest(path: Path) -> str:
    """Return the SHA-256 of a file. Raises FileNotFoundError if it is not there."""
    from pretrain.files.read import sha256_of

    if not path.is_file():
        raise FileNotFoundError(f"nothing at {path}")
    return sha256_of(path)


def weights_file(weights: Path | Released, folder: Path) -> Path:
    """Return the file of weights; a relative path is looked for below `folder`.

    Raises FileNotFoundError that says where to get a release and where to put it.
    """
    if isinstance(weights, Released):
        from transfer.weights.releases import FOLDER, find, nothing_fetched

        with nothing_fetched():  # plans are made to look at; `fetch_release` fetches
            return find(weights.name, folder / FOLDER)[0].resolve()
    path = folder / weights
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}")
    return path.resolve()


def fetch_release(release: Released, folder: Path) -> None:
    """Fetch the file of a release where it is not there yet.

    Raises FileNotFoundError that says where to get it and where to put it.
    """
    from transfer.weights.releases import FOLDER, find

    find(release.name, folder / FOLDER)


@lru_cache(maxsize=64)
def files_digest(path: Path) -> str:
    """Return count and digest of a JSON's content, or of the names and sizes of a folder's images.

    118,000 images are looked at, not read: one replaced by another of its name and size does not
    show. Raises FileNotFoundError if nothing is there.
    """
    if path.is_file():
        return content_digest(path)[:16]
    if not path.is_dir():
        raise FileNotFoundError(f"nothing at {path}")
    found = find_files(path, IMAGE_SUFFIXES).files
    names = sorted(name for group in found.values() for name in group)
    if not names:
        raise FileNotFoundError(f"no image below {path}")
    root, digest = os.fsencode(path), hashlib.sha256()
    parts = [names[i : i + FILES_AT_ONCE] for i in range(0, len(names), FILES_AT_ONCE)]
    with ThreadPoolExecutor(THREADS) as pool:
        for lines in pool.map(partial(_names_and_sizes, root), parts):
            digest.update(lines)
    return f"{len(names)} files, {digest.hexdigest()[:16]}"


def _names_and_sizes(root: bytes, names: Sequence[bytes]) -> bytes:
    sizes = (os.stat(root + b"/" + name).st_size for name in names)  # noqa: PTH116 - bytes
    return b"".join(b"%b %d\0" % line for line in zip(names, sizes, strict=True))


@lru_cache(maxsize=16)
def images_digest(path: Path) -> str:
    """Return count and digest of the names of images to pretrain on, from their index if there is.

    Raises FileNotFoundError or ValueError if there is no image.
    """
    from pretrain.data.sources import digest, open_images

    images = open_images(path)
    return f"{len(images)} images, {digest(images)[:16]}"


@lru_cache(maxsize=16)
def labelled_digest(path: Path) -> dict[str, str]:
    """Return count and digest of the labelled images of both splits.

    Raises FileNotFoundError or ValueError if a split is missing or wrong.
    """
    from transfer.classification.protocol import images_of
    from transfer.datasets.class_split import open_split

    found = {name: images_of(open_split(path, name)) for name in ("train", "val")}
    return {name: f"{said['images']} images, {said['digest']}" for name, said in found.items()}


def tokenizer_digest(file: str) -> str | None:
    """Return the SHA-256 of a tokenizer's file; None for a run that trains its own.

    Raises FileNotFoundError if the file is not there.
    """
    if file and not Path(file).is_file():
        raise FileNotFoundError(
            f"no tokenizer at {file}: convert OpenAI's with tools/convert_dalle.py, or train one "
            "with tools/train_tokenizer.py"
        )
    return content_digest(Path(file)) if file else None


def looked_at(what: Mapping[str, Callable[[], Any]]) -> tuple[dict[str, Any], list[str]]:
    """Return what each function returns, MISSING where it raises, and the errors' messages."""
    found, problems = {}, []
    for name, look in what.items():
        try:
            found[name] = look()
        except (OSError, ValueError) as error:
            found[name] = MISSING
            problems.append(str(error))
    return found, list(dict.fromkeys(problems))
