"""Read one image, whatever happens to it: tried again, then replaced by another one.

A replacement is drawn from (seed, epoch, image) alone, so a resumed run draws the same one. Each is
logged; past a share of the images the run stops.
"""

import errno
import io
import logging
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pretrain.data.sources import ImageSource
from pretrain.files.image import decode_rgb

logger = logging.getLogger(__name__)

WAITS_S = (0.0, 0.5)  # before reading again: network disks come back
REPLACEMENTS = 10  # drawn for one image; all unreadable: the disk is gone
UNREADABLE_SHARE = 0.01  # of the images, rounded up; more stop the run
LOGGED = 10  # images that are named; then every tenfold number
LASTING = {
    None,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EACCES,
    errno.ELOOP,
    errno.ENAMETOOLONG,
}


@dataclass(frozen=True)
class Failure:
    """An image that could not be read."""

    index: int
    message: str  # with its name


class UnreadableImagesError(OSError):
    """So many images cannot be read that the run cannot go on."""

    def __init__(self, message: str) -> None:
        super().__init__(errno.EIO, message)

    def __str__(self) -> str:
        return str(self.strerror)


def read_image(images: ImageSource, index: int) -> Image.Image:
    """Return image `index` as RGB, as its pixels are stored (EXIF rotation is not applied).

    A failed read is repeated at once, and again after half a second if the disk, not the file,
    may be the cause. Raises ValueError with the image's name and the reason.
    """
    for wait in WAITS_S:
        try:
            return _read(images, index)
        except OSError as error:
            if wait and error.errno in LASTING:
                break
        except ValueError:
            if wait:
                break
        time.sleep(wait)
    try:
        return _read(images, index)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{images.name(index)} cannot be read: {reason}") from error


def _read(images: ImageSource, index: int) -> Image.Image:
    with images.open(index) as stream:
        return decode_rgb(io.BytesIO(stream.read()))


def read_or_replace(
    images: ImageSource, index: int, key: tuple[int, int]
) -> tuple[Image.Image, list[Failure]]:
    """Return image `index`, or one drawn to replace it, and those that could not be read.

    `key` is (seed, epoch). Raises UnreadableImagesError if ten others cannot be read either.
    """
    _, image, failures = read_or_draw(images, index, key)
    return image, failures


def read_or_draw(
    images: ImageSource, index: int, key: tuple[int, int]
) -> tuple[int, Image.Image, list[Failure]]:
    """Return the number of the image that was read, and what `read_or_replace` returns.

    Raises UnreadableImagesError likewise.
    """
    failures: list[Failure] = []
    chosen = index
    for attempt in range(1, REPLACEMENTS + 2):
        try:
            return chosen, read_image(images, chosen), failures
        except ValueError as error:
            failures.append(Failure(chosen, str(error)))
            # numpy pads a key with zeros, so the attempt must not be 0: 1 + index alone is taken
            draw = np.random.default_rng([*key, 1 + index, attempt])
            chosen = (index + int(draw.integers(1, max(2, len(images))))) % len(images)
    raise UnreadableImagesError(
        f"{len(failures)} images drawn one after another cannot be read, the last: "
        f"{failures[-1].message}; are the disks still there?"
    )


class FailureCount:
    """Counts the images of one process that could not be read, and stops at too many."""

    def __init__(self, images: int) -> None:
        self.images = images
        self.most = math.ceil(UNREADABLE_SHARE * images)
        self.failed: set[int] = set()

    def add(self, failures: Iterable[Failure]) -> None:
        """Log failures. Raises UnreadableImagesError when more than 1 % of the images failed."""
        for failure in failures:
            if failure.index in self.failed:
                continue
            self.failed.add(failure.index)
            self._log(failure)
            if len(self.failed) > self.most:
                raise UnreadableImagesError(
                    f"{len(self.failed)} of {self.images} images cannot be read, more than "
                    f"{UNREADABLE_SHARE:.0%}; the last: {failure.message}; find all with "
                    "tools/check_data.py images DIR, or leave them out with --skip-unreadable"
                )

    def _log(self, failure: Failure) -> None:
        count = len(self.failed)
        if count <= LOGGED:
            logger.warning("another image is taken: %s", failure.message)
        if count >= LOGGED and math.log10(count).is_integer():
            logger.warning("%d of %d images could not be read so far", count, self.images)
