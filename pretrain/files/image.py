"""Read image files: the one reader of pretraining and of the data checks.

EXIF rotation is not applied and transparency is dropped, as in torchvision's ImageFolder, which the
papers' code reads with. 16 bits per channel become 8 by dropping the lower ones.
"""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
from PIL import Image

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})
ENDINGS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}  # other formats have to be decoded
ENDING_BYTES = 16  # some cameras write a few bytes after the marker
# what Pillow raises for a file that is damaged, not an image, or too large to be one
BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
UNKNOWN_RANGE = "32-bit pixels do not say what is black and white: write it with 8 or 16 bits"

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Header:
    """What an image says of itself: pixels before EXIF rotation, PIL's mode, EXIF's rotation."""

    width: int
    height: int
    mode: str
    bits: int  # per channel: 8 or less counts as 8
    orientation: int


def open_regular(path: str | bytes | Path) -> BufferedReader:
    """Open a file for reading. Raises OSError for a fifo, socket or device."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(f"{os.fsdecode(path)} is not a regular file")
    return os.fdopen(handle, "rb")


def decode_rgb(stream: IO[bytes]) -> Image.Image:
    """Return an image as RGB, 8 bits per channel. Raises ValueError if it cannot be decoded."""
    return _decoding(lambda: _rgb(stream))


def _rgb(stream: IO[bytes]) -> Image.Image:
    with Image.open(stream) as image:
        bits = _bits(image)
        if bits == 32:
            raise ValueError(UNKNOWN_RANGE)
        if bits == 16:
            upper = (np.asarray(image).astype(np.int32) >> 8).astype(np.uint8)
            return Image.fromarray(upper).convert("RGB")
        return image.convert("RGB")


def _bits(image: Image.Image) -> int:
    """Return the bits of a channel; PIL has read colours of 16 bits as 8 bits already.

    Before Pillow 11, 16-bit grey of PNG and PPM has mode "I".
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return 16
    return 32 if image.mode in ("I", "F") else 8


def inspect(stream: IO[bytes], decode: bool) -> Header:
    """Return the header of an image. Raises ValueError if the image is not readable.

    Without `decode`, a JPEG or PNG whose end marker is in place counts as complete. Images
    with bytes after the marker are decoded.
    """
    return _decoding(lambda: _inspect(stream, decode))


def _inspect(stream: IO[bytes], decode: bool) -> Header:
    with Image.open(stream) as image:
        rotation = image.getexif().get(0x0112, 1)
        header = Header(image.width, image.height, image.mode, _bits(image), rotation)
        if decode or not _ends_well(stream, image.format):
            image.load()
    return header


def _ends_well(stream: IO[bytes], image_format: str | None) -> bool:
    if image_format not in ENDINGS:
        return False
    place = stream.tell()
    size = stream.seek(0, os.SEEK_END)
    stream.seek(-min(ENDING_BYTES, size), os.SEEK_END)
    found = stream.read().endswith(ENDINGS[image_format])
    stream.seek(place)
    return found


def _decoding(read: Callable[[], Answer]) -> Answer:
    """Return what `read` returns. Raises ValueError for PIL's errors, OSError for failed reads.

    On bytes that are not what they seem, PIL's formats raise whatever they stumble over.
    """
    try:
        return read()
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise
        reason = str(error).split(" <_io.")[0].split(" '/")[0]
        raise ValueError(reason or type(error).__name__) from error
