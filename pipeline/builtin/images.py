"""The built-in dataset: ten solid shapes on painted grounds, drawn by formula at any resolution.

A scene is a function of continuous coordinates, its parameters are bits of a hash of (split, class, index). Only
+ - * / sqrt, comparisons and gathers are used: IEEE 754 fixes their results to the last bit, so the same pixels come out
of every machine and every NumPy version (sin, exp, matrix products and random generators give no such promise).
"""

import hashlib
from collections.abc import Callable, Mapping
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from impure.manifests.errors import InputError

Array = NDArray[np.float64]
Shape = Callable[[Array, Array], Array]

SIZES: Mapping[str, int] = {"train": 2000, "val": 400}
"""Images per class in each split."""

GRAIN = 64
"""Cells per side of the finest noise lattice: one per pixel at the target's input size."""


def _disc(x: Array, y: Array, radius: float = 0.86) -> Array:
    return np.sqrt(x * x + y * y) - radius


def _ring(x: Array, y: Array) -> Array:
    return np.abs(_disc(x, y, 0.72)) - 0.22


def _crescent(x: Array, y: Array) -> Array:
    return np.maximum(_disc(x + 0.1, y, 0.95), -_disc(x - 0.45, y, 0.75))


def _square(x: Array, y: Array) -> Array:
    return np.maximum(np.abs(x), np.abs(y)) - 0.75


def _triangle(x: Array, y: Array) -> Array:
    slope = 0.5 * sqrt(3.0)
    return np.maximum(y, slope * np.abs(x) - 0.5 * y) - 0.52


def _cross(x: Array, y: Array) -> Array:
    x, y = np.abs(x), np.abs(y)
    return np.maximum(np.maximum(x, y) - 0.95, np.minimum(x, y) - 0.27)


def _star(x: Array, y: Array) -> Array:
    # A five-pointed star is where at most one of a pentagon's five edges is overstepped.
    c1, c2 = (sqrt(5.0) - 1.0) / 4.0, -(sqrt(5.0) + 1.0) / 4.0  # cosines of 72 and 144 degrees
    s1, s2 = sqrt(1.0 - c1 * c1), sqrt(1.0 - c2 * c2)
    edges = np.stack([y, s1 * x + c1 * y, -s1 * x + c1 * y, s2 * x + c2 * y, -s2 * x + c2 * y])
    return np.sort(edges, axis=0)[3] - 0.34


def _heart(x: Array, y: Array) -> Array:
    side, x, y = 0.58, np.abs(x), y + 0.1
    half = side * sqrt(0.5)
    return np.minimum((x + np.abs(y)) * sqrt(0.5) - side, _disc(x - half, y + half, side))


def _bars(x: Array, y: Array) -> Array:
    y = np.abs(y)
    return np.maximum(np.abs(x) - 0.9, np.minimum(y, np.abs(y - 0.68)) - 0.2)


def _hourglass(x: Array, y: Array) -> Array:
    x, y = np.abs(x), np.abs(y)
    return np.maximum(y - 0.85, 0.75 * x - 0.65 * y - 0.08)


# Signed distance to each outline (negative inside), shape within about the unit circle, y downwards.
SHAPES: Mapping[str, Shape] = {
    "builtin-bars": _bars,
    "builtin-crescent": _crescent,
    "builtin-cross": _cross,
    "builtin-disc": _disc,
    "builtin-heart": _heart,
    "builtin-hourglass": _hourglass,
    "builtin-ring": _ring,
    "builtin-square": _square,
    "builtin-star": _star,
    "builtin-triangle": _triangle,
}

CLASSES: tuple[str, ...] = tuple(SHAPES)
"""Class ids in label order; they stand where ImageNet has wnids."""


def _draws(key: str, count: int) -> Array:
    """`count` uniform numbers in [0, 1) fixed by `key` (SHAKE-256, 16 bits each)."""
    return np.frombuffer(hashlib.shake_256(key.encode()).digest(2 * count), dtype="<u2") / 65536.0


def _noise(lattice: Array, size: int) -> Array:
    """Value noise: an (n+1, n+1, channels) lattice interpolated smoothly to (size, size, channels)."""
    cells = lattice.shape[0] - 1
    at = (np.arange(size) + 0.5) * cells / size
    low = at.astype(np.int64)
    t = at - low
    t = t * t * (3.0 - 2.0 * t)
    rows = lattice[low] + (lattice[low + 1] - lattice[low]) * t[:, None, None]
    return rows[:, low] + (rows[:, low + 1] - rows[:, low]) * t[:, None]


def _step(d: Array, width: float) -> Array:
    """1 inside (d < 0), 0 outside, a linear ramp of the given width across the outline."""
    return np.clip(0.5 - d / width, 0.0, 1.0)


def _colours(u: Array) -> tuple[Array, Array]:
    """Two RGB colours in [0, 1], the second at least `CONTRAST` lighter or darker than the first."""
    ground = 0.2 + 0.6 * u[:3]
    sign = 1.0 if u[3] < 1.0 - ground.sum() / 3.0 else -1.0
    return ground, ground + sign * (0.16 + 0.14 * u[4]) + 0.3 * (u[5:8] - 0.5)


def render(split: str, class_id: str, index: int, size: int) -> NDArray[np.uint8]:
    u = _draws(f"impure/{split}/{class_id}/{index}", 32)
    v = 2.0*u-1.0
    axis = (np.arange(size) + 0.5) * 2.0 / size - 1.0
    scale = 0.42 + 0.23 * u[0]
    t = 0.3 * v[1]
    cos, sin = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    room=0.9-scale
    x = (axis[None, :] - room * v[2]) / scale
    y = (axis[:, None] - room * v[3]) / scale
    d = SHAPES[class_id](cos * x + sin * y, cos * y - sin * x)
    ground, ink = _colours(u[4:12])
    clouds=_noise(_draws(f"impure/{split}/{class_id}/{index}/clouds", 6*6*3).reshape(6,6,3)-0.5, size)
    grain=_noise(_draws(f"impure/{split}/{class_id}/{index}/grain", (GRAIN+1)**2*3).reshape(GRAIN+1,GRAIN+1,3)-0.5, size)
    tilt=(v[20]*axis[None,:]+v[21]*axis[:,None])[..., None]
    cover=_step(d, 2.0/size/scale + 0.04)[...,None]
    shadow=_step(d-0.15,0.5)[...,None]
    gloss=(np.clip(-d,0,0.5))[...,None]
    back=(ground+0.15*tilt+0.3*clouds)*(1-0.25*shadow)
    fore=ink*(0.88+0.4*gloss)+0.1*tilt+0.12*clouds
    rgb=back+(fore-back)*cover+0.08*grain
    return np.floor(np.clip(rgb,0,1)*255+0.5).astype(np.uint8)
