"""Signed distances to outlines, in pixels: negative inside, so that edges can be anti-aliased.

Every function takes (u, v), coordinates from the outline's centre along its own axes, and its
radius; arrays broadcast.
"""

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def disc(u: Array, v: Array, radius: float) -> Array:
    """Return the signed distance to a circle."""
    return np.hypot(u, v) - radius


def box(u: Array, v: Array, radius: float) -> Array:
    """Return the distance to a rounded square with a half side of 0.85 of the radius."""
    corner = 0.12 * radius
    qu, qv = np.abs(u) - 0.85 * radius + corner, np.abs(v) - 0.85 * radius + corner
    outside = np.hypot(np.maximum(qu, 0), np.maximum(qv, 0))
    return outside + np.minimum(np.maximum(qu, qv), 0) - corner


def star(u: Array, v: Array, radius: float) -> Array:
    """Return the distance to a five-pointed star with dents at 0.5 of the radius."""
    sector = math.pi / 5
    angle = np.abs((np.arctan2(v, u) + sector) % (2 * sector) - sector)
    distance = np.hypot(u, v)
    x, y = distance * np.cos(angle), distance * np.sin(angle)
    edge_x, edge_y = 0.5 * math.cos(sector) - 1.1, 0.5 * math.sin(sector)
    return ((x - 1.1 * radius) * edge_y - y * edge_x) / math.hypot(edge_x, edge_y)


def triangle(u: Array, v: Array, radius: float) -> Array:
    """Return the distance to an equilateral triangle."""
    sector = math.pi / 3
    angle = (np.arctan2(v, u) + sector) % (2 * sector) - sector
    return np.hypot(u, v) * np.cos(angle) - 0.6 * radius


def ring(u: Array, v: Array, radius: float) -> Array:
    """Return the distance to a circle with a hole of 0.55 of the radius."""
    return np.abs(np.hypot(u, v) - 0.775 * radius) - 0.225 * radius


def bar(u: Array, v: Array, radius: float) -> Array:
    """Return the distance to a long rounded bar."""
    return np.hypot(u - np.clip(u, -radius, radius), v) - 0.25 * radius


OUTLINES = {"disc": disc, "box": box, "star": star}
CLUTTER_OUTLINES = {"triangle": triangle, "ring": ring, "bar": bar}
