"""The embedded dataset: scenes drawn by rule, the same for the same (seed, split, index, level).

A scene is laid out in shares of its side: drawn at twice the side, it is the same scene enlarged,
with edges and masks as exact as before. Clutter belongs to no class. Objects cover one another,
are lit from one side and throw shadows, on one to three backgrounds that are classes of their own
for segmentation.
"""

import colorsys
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from transfer.datasets.shapes.levels import EASY, STUFF_CLASSES, Level
from transfer.datasets.shapes.outlines import CLUTTER_OUTLINES, OUTLINES
from transfer.datasets.shapes.textures import (
    BACKGROUNDS,
    CLUTTER_SURFACES,
    SURFACES,
    Array,
    Rng,
    mix,
    noise,
)

SPLITS = ("unlabelled", "train", "val")

PALETTE = (
    (126, 190, 235),
    (43, 95, 170),
    (84, 160, 66),
    (226, 203, 140),
    (178, 88, 68),
    (134, 94, 60),
    (230, 57, 70),
    (255, 127, 80),
    (255, 190, 11),
    (131, 56, 236),
    (186, 104, 255),
    (255, 0, 110),
    (0, 180, 160),
    (6, 214, 120),
    (0, 119, 182),
)

KEPT_SHARE = 0.5  # of an object stays visible when others are put before it
SMALLEST = 0.004  # of the image's area: less of an object is not drawn


@dataclass(frozen=True)
class Instance:
    """One object: its index in the level's classes, and its visible pixels (H, W) bool."""

    category: int
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class Scene:
    """One image (H, W, 3) uint8 with its label map (H, W) uint8 and its instances."""

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    instances: tuple[Instance, ...]


@dataclass(frozen=True)
class Light:
    """Where light comes from, a unit vector (x, y down, z), and the share without direction."""

    direction: tuple[float, float, float]
    ambient: float


@dataclass(frozen=True)
class Thing:
    """An object or a piece of clutter before it is drawn; lengths in pixels, angles in radians."""

    outline: str
    surface: str
    center: tuple[float, float]  # x, y
    radius: float
    angle: float
    aspect: float
    period: float
    surface_angle: float
    colors: tuple[Array, Array]
    size: int
    category: int | None  # index in the level's classes; None for clutter

    @cached_property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns that contain the object and its shadow."""
        reach = 1.75 * self.radius + 2
        low, high = ((np.array(self.center) + d).clip(0, self.size) for d in (-reach, reach))
        columns, rows = (slice(int(a), int(b) + 1) for a, b in zip(low, high, strict=True))
        return rows, columns

    def axes(self, shift: tuple[float, float] = (0.0, 0.0)) -> tuple[Array, Array]:
        """Return coordinates along the axes of the object moved by `shift` (rows, columns)."""
        rows, columns = self.window
        last = self.size
        y, x = np.ogrid[rows.start : min(rows.stop, last), columns.start : min(columns.stop, last)]
        x, y = (x - self.center[0] - shift[0]), (y - self.center[1] - shift[1])
        x, y = x.astype(np.float32), y.astype(np.float32)
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return (x * cos + y * sin) / self.aspect, (y * cos - x * sin) * self.aspect

    def distance(self, shift: tuple[float, float] = (0.0, 0.0)) -> Array:
        """Return the signed distance to the outline, over the window."""
        return (OUTLINES | CLUTTER_OUTLINES)[self.outline](*self.axes(shift), self.radius)

    @cached_property
    def depth(self) -> Array:
        """Signed distance over the window, without a shift."""
        return self.distance()

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """Return the pixels (H, W) that are more than half inside."""
        mask = np.zeros((self.size, self.size), dtype=bool)
        mask[self.window] = self.depth < 0
        return mask


def draw_scene(seed: int, split: str, index: int, size: int = 128, level: Level = EASY) -> Scene:
    """Draw image `index` of `split`; its random numbers depend on nothing else.

    Raises ValueError for an unknown split, or a `size` under 64 pixels.
    """
    if split not in SPLITS or size < 64:
        raise ValueError(f"no scene for split {split!r} at {size} px: {SPLITS}, 64 px or more")
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    image, labels = _backgrounds(rng, size)
    light = _light(rng)
    drawn: list[tuple[int | None, NDArray[np.bool_]]] = []
    for thing in _things(rng, size, level):
        if _fits(thing, drawn):
            _draw(image, thing, light)
            drawn = [(category, mask & ~thing.mask) for category, mask in drawn]
            drawn.append((thing.category, thing.mask))
    for category, mask in drawn:
        labels[mask] = 0 if category is None else 1 + len(STUFF_CLASSES) + category
    instances = tuple(Instance(c, mask) for c, mask in drawn if c is not None)
    return Scene(_develop(rng, image), labels, instances)


def _backgrounds(rng: Rng, size: int) -> tuple[Array, NDArray[np.uint8]]:
    """Draw one to three regions with wavy borders: colours (H, W, 3), labels (H, W)."""
    unit = size / 128
    count = rng.choice(3, p=(0.25, 0.5, 0.25)) + 1
    kinds = np.sort(rng.choice(len(STUFF_CLASSES), count, replace=False))  # sky comes on top
    sites = rng.uniform(0.1, 0.9, (count, 2)) * size
    sites = sites[np.argsort(sites[:, 1])]
    y, x = np.ogrid[:size, :size]
    wavy = noise(rng, size, 24 * unit, 24 * unit) * 14 * unit
    reach = np.array([np.hypot(0.5 * (x - sx) + wavy, y - sy) for sx, sy in sites], np.float32)
    nearness = np.exp(1.5 * (reach.min(axis=0) - reach))
    nearness /= nearness.sum(axis=0)
    painted = [BACKGROUNDS[STUFF_CLASSES[kind]](rng, size, unit) for kind in kinds]
    image = sum(near[..., None] * paint for near, paint in zip(nearness, painted, strict=True))
    return image, (1 + kinds[np.argmin(reach, axis=0)]).astype(np.uint8)


def _light(rng: Rng) -> Light:
    azimuth, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.1)
    flat = math.cos(elevation)
    direction = (flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation))
    return Light(direction, rng.uniform(0.35, 0.65))


def _things(rng: Rng, size: int, level: Level) -> list[Thing]:
    """Draw objects and clutter, distant ones (higher in the image) first."""
    objects = [_object(rng, size, level) for _ in range(_count(rng, level.objects))]
    clutter = [_clutter(rng, size, level) for _ in range(_count(rng, level.clutter))]
    return sorted(objects + clutter, key=lambda thing: thing.center[1] + 0.5 * thing.radius)


def _count(rng: Rng, ends: tuple[int, int]) -> int:
    return int(rng.integers(ends[0], ends[1] + 1))


def _object(rng: Rng, size: int, level: Level) -> Thing:
    category = int(rng.integers(level.classes))
    name = level.things[category]
    if level.by_outline:
        name = f"{_pick(rng, SURFACES)} {name}"
    surface, outline = name.split(" ")
    return _thing(rng, size, (outline, surface), level.radius, category)


def _clutter(rng: Rng, size: int, level: Level) -> Thing:
    """Combine an object's outline with another surface, or its surface with another outline.

    The first only where the surface tells classes apart.
    """
    if not level.by_outline and rng.random() < 0.5:
        kind = _pick(rng, OUTLINES), _pick(rng, CLUTTER_SURFACES)
        return _thing(rng, size, kind, level.clutter_radius, None)
    surface = _pick(rng, SURFACES | CLUTTER_SURFACES)
    kind = _pick(rng, CLUTTER_OUTLINES), surface
    return _thing(rng, size, kind, level.clutter_radius, None)


def _pick(rng: Rng, names: Mapping[str, object]) -> str:
    return list(names)[rng.integers(len(names))]


def _thing(
    rng: Rng, size: int, kind: tuple[str, str], smallest: float, category: int | None
) -> Thing:
    """Draw place, size, pose and colours of a thing of `kind`, (outline, surface)."""
    radius = size * np.exp(rng.uniform(np.log(smallest), np.log(0.26)))
    first, second = _two_colors(rng)
    return Thing(
        outline=kind[0],
        surface=kind[1],
        center=(rng.uniform(0.04, 0.96) * size, rng.uniform(0.04, 0.96) * size),
        radius=float(radius),
        angle=rng.uniform(0, 2 * np.pi),
        aspect=float(np.exp(rng.uniform(-0.13, 0.13))),
        period=float(max(size * 0.04, radius * rng.uniform(0.42, 0.65))),
        surface_angle=rng.uniform(0, np.pi),
        colors=(first, second),
        size=size,
        category=category,
    )


def _two_colors(rng: Rng) -> tuple[Array, Array]:
    """Draw any two hues, one dark and one light, in either order."""
    dark = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.3, 0.9), rng.uniform(0.15, 0.5))
    light = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.05, 0.7), rng.uniform(0.8, 1))
    first, second = np.array(dark, np.float32), np.array(light, np.float32)
    return (first, second) if rng.random() < 0.5 else (second, first)


def _fits(thing: Thing, drawn: list[tuple[int | None, NDArray[np.bool_]]]) -> bool:
    """Return whether enough of `thing`, and of what it would cover, stays visible."""
    smallest = SMALLEST * thing.size**2
    if thing.mask.sum() < smallest:
        return False
    for _, mask in drawn:
        before, after = mask.sum(), (mask & ~thing.mask).sum()
        if after < before and after < max(smallest, KEPT_SHARE * before):
            return False
    return True


def _draw(image: Array, thing: Thing, light: Light) -> None:
    """Put `thing` and its shadow on `image` (H, W, 3)."""
    under = image[thing.window]
    height = 0.3 * thing.radius
    shift = (-light.direction[0] * height, -light.direction[1] * height)
    shadow = np.clip(0.5 - thing.distance(shift) / (0.25 * thing.radius), 0, 1)
    under = under * (1 - 0.5 * (1 - light.ambient * 0.5) * shadow)[..., None]
    u, v = thing.axes()
    cos, sin = math.cos(thing.surface_angle), math.sin(thing.surface_angle)
    pattern = (SURFACES | CLUTTER_SURFACES)[thing.surface]
    share = pattern(u * cos + v * sin, v * cos - u * sin, thing.period)
    lit, shine = _shading(thing, light)
    surface = mix(*thing.colors, share) * lit[..., None] + shine[..., None]
    image[thing.window] = mix(under, surface, 0.5 - thing.depth)


def _shading(thing: Thing, light: Light) -> tuple[Array, Array]:
    """Return brightness and highlight, over the window, of a surface bulging in the middle."""
    rise = np.clip(-thing.depth / (0.6 * thing.radius), 0, 1)
    bulge = np.sqrt(1 - (1 - rise) ** 2) * 0.6 * thing.radius
    slope_y, slope_x = np.gradient(bulge)
    x, y, z = light.direction
    facing = (z - slope_x * x - slope_y * y) / np.sqrt(1 + slope_x**2 + slope_y**2)
    lit = light.ambient + (1.15 - light.ambient) * np.clip(facing, 0, 1)
    return lit, 0.25 * np.clip(facing, 0, 1) ** 24


def _develop(rng: Rng, image: Array) -> NDArray[np.uint8]:
    """Add uneven light, tint, exposure and grain; (H, W, 3) in [0, 1] to uint8."""
    size = len(image)
    x = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    y = x[:, None]
    fall_x, fall_y = rng.uniform(-0.35, 0.35, 2).tolist()
    tint = (rng.normal(1, 0.06, 3) * rng.uniform(0.75, 1.1)).astype(np.float32)
    image = image * (1 + fall_x * x + fall_y * y)[..., None] * tint
    image += np.float32(0.012) * rng.standard_normal(image.shape, np.float32)
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
