"""The textures of the embedded dataset: six backgrounds, and the surfaces of objects.

A background returns (size, size, 3) colours in [0, 1]; `unit` is one 128th of the image's side,
so that a scene looks the same at every size. A surface returns the share of the object's second
colour, from coordinates along its axes and the pattern's period, both in pixels.
"""

import colorsys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.floating]
Rng = np.random.Generator


def color(rng: Rng, hue: tuple[float, float], saturation: float, value: float) -> Array:
    """Draw an RGB colour near the given one; `hue` is a range and may exceed 1."""
    h = rng.uniform(*hue) % 1.0
    s, v = np.clip(rng.normal((saturation, value), (0.12, 0.1)), 0.02, 0.98)
    return np.array(colorsys.hsv_to_rgb(h, s, v), np.float32)


def noise(rng: Rng, size: int, cell_y: float, cell_x: float) -> Array:
    """Draw smooth noise of mean 0 and std near 0.4, with knots every `cell_y`, `cell_x` pixels."""
    rows, columns = (max(4, int(np.ceil(size / cell)) + 3) for cell in (cell_y, cell_x))
    knots = rng.uniform(-1, 1, (rows, columns)).astype(np.float32)
    y, x = rng.uniform(0, 1, 2)
    window = (x, y, x + max(size / cell_x, 1.0), y + max(size / cell_y, 1.0))
    resized = Image.fromarray(knots).resize((size, size), Image.Resampling.BICUBIC, box=window)
    return np.asarray(resized)


def clouds(rng: Rng, size: int, cell: float) -> Array:
    """Draw three octaves of noise, the largest with one knot per `cell` pixels."""
    octaves = [noise(rng, size, cell / 2**i, cell / 2**i) / 2**i for i in range(3)]
    return np.sum(octaves, axis=0)


def mix(first: Array, second: Array, share: Array) -> Array:
    """Mix colours (..., 3); share (...) is that of the second."""
    share = np.clip(share, 0, 1).astype(np.float32, copy=False)
    if first.ndim > 1:
        return first + (second - first) * share[..., None]
    channels = [a + (b - a) * share for a, b in zip(first, second, strict=True)]
    return np.stack(channels, axis=-1)


def turned(rng: Rng, size: int, spread: float) -> tuple[Array, Array]:
    """Return coordinates (size, size), moved and turned by at most `spread` radians at random."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    angle = rng.uniform(-spread, spread)
    shift_x, shift_y = rng.uniform(0, 4 * size, 2)
    cos, sin = np.cos(angle), np.sin(angle)
    return x * cos + y * sin + shift_x, y * cos - x * sin + shift_y


def sky(rng: Rng, size: int, unit: float) -> Array:
    """Draw a vertical gradient with soft clouds."""
    top, bottom = color(rng, (0.52, 0.66), 0.5, 0.75), color(rng, (0.5, 1.1), 0.2, 0.85)
    height = np.linspace(np.zeros(size), 1, size, dtype=np.float32)
    cover = clouds(rng, size, rng.uniform(30, 60) * unit) * 1.5 + rng.uniform(-0.4, 0.4)
    return mix(mix(top, bottom, height), np.full(3, rng.uniform(0.85, 0.98), np.float32), cover)


def water(rng: Rng, size: int, unit: float) -> Array:
    """Draw horizontal wavy bands with glints on their crests."""
    _, y = turned(rng, size, 0.15)
    period = rng.uniform(7, 12) * unit
    warp = noise(rng, size, 14 * unit, 30 * unit) * 4 * unit
    wave = np.sin(2 * np.pi * (y + warp) / period)
    deep, crest = color(rng, (0.42, 0.66), 0.55, 0.45), color(rng, (0.42, 0.66), 0.35, 0.7)
    glint = (wave > 0.6) * np.maximum(noise(rng, size, 3 * unit, 9 * unit), 0)
    return mix(deep, crest, 0.5 + 0.4 * wave) + 0.5 * glint[..., None]


def grass(rng: Rng, size: int, unit: float) -> Array:
    """Draw upright blades."""
    blades = noise(rng, size, 11 * unit, 1.6 * unit) + 0.6 * noise(rng, size, 6 * unit, 2.4 * unit)
    dark, light = color(rng, (0.16, 0.4), 0.55, 0.32), color(rng, (0.12, 0.36), 0.5, 0.66)
    patches = 0.35 * noise(rng, size, 40 * unit, 40 * unit)
    return mix(dark, light, 0.5 + blades * 0.8 + patches)


def sand(rng: Rng, size: int, unit: float) -> Array:
    """Draw fine grains on gentle ripples."""
    x, _ = turned(rng, size, np.pi / 2)
    warp = noise(rng, size, 40 * unit, 40 * unit) * 12 * unit
    ripples = np.sin(2 * np.pi * (x + warp) / (rng.uniform(18, 30) * unit))
    grains = noise(rng, size, 1.5 * unit, 1.5 * unit)
    dark, light = color(rng, (0.02, 0.16), 0.4, 0.55), color(rng, (0.05, 0.16), 0.3, 0.8)
    return mix(dark, light, 0.5 + 0.18 * ripples + 0.6 * grains)


def bricks(rng: Rng, size: int, unit: float) -> Array:
    """Draw rows of bricks, each in its own shade, in light mortar."""
    x, y = turned(rng, size, 0.12)
    height = rng.uniform(9, 13) * unit
    width = height * rng.uniform(1.9, 2.3)
    row = np.floor(y / height)
    across = x / width + 0.5 * (row % 2)
    column = np.floor(across)
    u, v = (across - column - 0.5) * width, (y / height - row - 0.5) * height
    joint = np.maximum(np.abs(u) - width / 2, np.abs(v) - height / 2) + 1.3 * unit
    shade = rng.uniform(-0.12, 0.12, 1009).astype(np.float32)[
        (row * 97 + column * 31).astype(int) % 1009
    ]
    face = color(rng, (-0.04, 0.08), 0.5, 0.55) + shade[..., None]
    face = face + 0.1 * noise(rng, size, 3 * unit, 3 * unit)[..., None]
    return mix(face, color(rng, (0.0, 1.0), 0.08, 0.75), joint / unit + 0.5)


def wood(rng: Rng, size: int, unit: float) -> Array:
    """Draw planks with long grain, vertical or horizontal."""
    _, y = turned(rng, size, 0.05)
    grain = noise(rng, size, 2.2 * unit, 50 * unit) + 0.5 * noise(rng, size, 5 * unit, 70 * unit)
    plank = y / (rng.uniform(20, 30) * unit)
    seam = np.abs(plank - np.round(plank)) * 25 * unit < unit
    shade = rng.uniform(-0.3, 0.3, 101).astype(np.float32)[np.floor(plank + 0.5).astype(int) % 101]
    dark, light = color(rng, (0.03, 0.1), 0.55, 0.32), color(rng, (0.05, 0.12), 0.45, 0.68)
    planks = mix(dark, light, 0.5 + 0.7 * grain + shade - 0.8 * seam)
    return planks if rng.random() < 0.5 else planks.transpose(1, 0, 2)


def striped(u: Array, v: Array, period: float) -> Array:  # noqa: ARG001
    """Draw parallel bands."""
    return np.clip(0.5 + np.sin(2 * np.pi * u / period) * period / (2 * np.pi), 0, 1)


def checked(u: Array, v: Array, period: float) -> Array:
    """Draw squares, half a period wide."""
    product = np.sin(2 * np.pi * u / period) * np.sin(2 * np.pi * v / period)
    return np.clip(0.5 + product * period / (2 * np.pi), 0, 1)


def spotted(u: Array, v: Array, period: float) -> Array:
    """Draw dots in rows, each row shifted by half a period."""
    row = np.round(v / period)
    across = u / period + 0.5 * (row % 2)
    offset_u, offset_v = (across - np.round(across)) * period, v - row * period
    return np.clip(0.5 + 0.32 * period - np.hypot(offset_u, offset_v), 0, 1)


def plain(u: Array, v: Array, period: float) -> Array:  # noqa: ARG001
    """Draw one colour."""
    return np.zeros(np.broadcast_shapes(u.shape, v.shape))


def shaded(u: Array, v: Array, period: float) -> Array:  # noqa: ARG001
    """Draw a gradual change of colour along one axis."""
    return 0.5 + 0.5 * np.sin(u / (2 * period))


Surface = Callable[[Array, Array, float], Array]

BACKGROUNDS = {
    "sky": sky,
    "water": water,
    "grass": grass,
    "sand": sand,
    "bricks": bricks,
    "wood": wood,
}

SURFACES: dict[str, Surface] = {"striped": striped, "checked": checked, "spotted": spotted}
CLUTTER_SURFACES: dict[str, Surface] = {"plain": plain, "shaded": shaded}
