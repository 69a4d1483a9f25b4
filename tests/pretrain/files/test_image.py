"""The one reader of image files: what it takes, converts and refuses."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pretrain.files.image import decode_rgb, inspect, open_regular

PIXELS = np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8)


def encoded(image: Image.Image, image_format: str, **options: object) -> io.BytesIO:
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    stream.seek(0)
    return stream


def test_sixteen_bits_keep_their_range() -> None:
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    for image_format in ("PNG", "TIFF"):
        stream = encoded(Image.fromarray(ramp), image_format)
        assert inspect(stream, True).bits == 16
        stream.seek(0)
        rgb = np.asarray(decode_rgb(stream))
        assert np.array_equal(rgb[..., 1], ramp >> 8)


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_pixels_without_a_known_range_are_refused(kind: type) -> None:
    stream = encoded(Image.fromarray(np.ones((40, 40), dtype=kind)), "TIFF")
    assert inspect(stream, True).bits == 32
    stream.seek(0)
    with pytest.raises(ValueError, match="do not say what is black and white"):
        decode_rgb(stream)


def test_cmyk_grey_palette_and_transparency_become_rgb() -> None:
    image = Image.fromarray(PIXELS)
    for mode, image_format in (("CMYK", "JPEG"), ("L", "JPEG"), ("P", "PNG"), ("RGBA", "PNG")):
        changed = image.convert(mode)
        stream = encoded(changed, image_format)
        with Image.open(io.BytesIO(stream.getvalue())) as saved:
            expected = np.asarray(saved.convert("RGB"))
        assert np.array_equal(np.asarray(decode_rgb(stream)), expected)


def test_rotation_is_not_applied_as_in_torchvision(tmp_path: Path) -> None:
    from torchvision.datasets.folder import pil_loader

    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(tmp_path / "turned.jpg", exif=exif)
    with open_regular(tmp_path / "turned.jpg") as stream:
        own = np.asarray(decode_rgb(stream))
        stream.seek(0)
        assert inspect(stream, False).orientation == 6
    assert own.shape == (40, 30, 3)
    assert np.array_equal(own, np.asarray(pil_loader(str(tmp_path / "turned.jpg"))))


@pytest.mark.parametrize("decode", [True, False])
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "BMP"])
def test_a_truncated_image_is_refused(image_format: str, decode: bool) -> None:
    data = encoded(Image.fromarray(PIXELS), image_format).getvalue()
    half = io.BytesIO(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"."):
        inspect(half, decode)
    half.seek(0)
    with pytest.raises(ValueError, match=r"."):
        decode_rgb(half)


@pytest.mark.parametrize("decode", [True, False])
def test_bytes_after_the_end_are_allowed(decode: bool) -> None:
    data = encoded(Image.fromarray(PIXELS), "JPEG").getvalue()
    stream = io.BytesIO(data + b"camera notes" * 20)
    assert inspect(stream, decode).width == 30
    stream.seek(0)
    assert decode_rgb(stream).size == (30, 40)


def test_the_name_does_not_matter(tmp_path: Path) -> None:
    """ImageNet holds a PNG that is named .JPEG."""
    Image.fromarray(PIXELS).save(tmp_path / "a.JPEG", "PNG")
    with open_regular(tmp_path / "a.JPEG") as stream:
        assert np.array_equal(np.asarray(decode_rgb(stream)), PIXELS)


@pytest.mark.parametrize(
    "content", [b"", b"no image", b"\x89PNG\r\n\x1a\n", b"II*\0\xff\xff\xff\x7f"]
)
def test_what_is_not_an_image_is_one_kind_of_error(content: bytes) -> None:
    for read in (decode_rgb, lambda stream: inspect(stream, True)):
        with pytest.raises(ValueError, match=r"^(?!.*0x)."):
            read(io.BytesIO(content))


def test_what_is_not_a_file_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").mkdir()
    for name in ("a.jpg", "b.jpg"):
        with pytest.raises(OSError, match=f"{name} is not a regular file"):
            open_regular(tmp_path / name)
