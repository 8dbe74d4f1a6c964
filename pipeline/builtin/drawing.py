"""The built-in dataset: ten solid shapes on painted grounds, drawn by formula at any resolution.

A scene is a function of continuous coordinates; its parameters are bits of a hash of (split, class, index).
Only + - * / sqrt, comparisons and gathers are used: IEEE 754 fixes their results to the last bit, so every
machine and every NumPy version draws the same pixels (sin, exp, matrix products and random generators
promise no such thing).
"""

import hashlib
from collections.abc import Callable, Mapping
from math import prod, sqrt

import numpy as np
from numpy.typing import NDArray

from impure.manifests.base.errors import InputError

Array = NDArray[np.float64]
Shape = Callable[[Array, Array], Array]

SIZES: Mapping[str, int] = {"train": 2000, "val": 400}
"""Images per class in each split."""

GRAIN = 48
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
    second: Array = np.sort(edges, axis=0)[3]
    return second - 0.34


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


def _uniform(key: str, *shape: int) -> Array:
    """Uniform numbers in [0, 1) fixed by `key`: SHAKE-256, 16 bits each."""
    data = hashlib.shake_256(key.encode()).digest(2 * prod(shape))
    return np.frombuffer(data, dtype="<u2").reshape(shape) / 65536.0


def _noise(key: str, cells: int, size: int) -> Array:
    """Colour noise in [-0.5, 0.5), (size, size, 3): a lattice of random numbers, smoothly interpolated."""
    lattice = _uniform(key, cells + 1, cells + 1, 3) - 0.5
    at = (np.arange(size) + 0.5) * cells / size
    low = at.astype(np.int64)
    t = at - low
    t = t * t * (3.0 - 2.0 * t)
    rows = lattice[low] + (lattice[low + 1] - lattice[low]) * t[:, None, None]
    return rows[:, low] + (rows[:, low + 1] - rows[:, low]) * t[:, None]


def _inside(distance: Array, ramp: float) -> Array:
    """1 inside an outline, 0 outside, a linear ramp of the given width across it; (size, size, 1)."""
    covered: Array = np.clip(0.5 - distance / ramp, 0.0, 1.0)[..., None]
    return covered


def _place(shape: Shape, u: Array, axis: Array) -> Array:
    """Signed distance to `shape`, moved, scaled and turned by u, four numbers of [0, 1); (size, size)."""
    scale, t = 0.56 + 0.2 * u[0], 0.3 * (2.0 * u[1] - 1.0)
    room = 1.0 - scale
    x = (axis[None, :] - room * (2.0 * u[2] - 1.0)) / scale
    y = (axis[:, None] - room * (2.0 * u[3] - 1.0)) / scale
    # A turn of up to 33 degrees either way, by the tangent t of half its angle: rational, no sine.
    cos, sin = (1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t)
    distance: Array = shape(cos * x + sin * y, cos * y - sin * x) * scale
    return distance


def _colours(u: Array) -> tuple[Array, Array]:
    """RGB of the ground and of the shape, from u, eight numbers of [0, 1): clearly lighter or darker."""
    ground = 0.2 + 0.6 * u[:3]
    direction = 1.0 if u[3] < 1.0 - (ground[0] + ground[1] + ground[2]) / 3.0 else -1.0
    return ground, ground + direction * (0.3 + 0.2 * u[4]) + 0.3 * (u[5:8] - 0.5)


def _check(split: str, class_id: str, index: int, size: int) -> None:
    if split not in SIZES:
        raise InputError(f"built-in dataset: no split {split!r}; choose from {', '.join(SIZES)}")
    if class_id not in SHAPES:
        raise InputError(f"built-in dataset: no class {class_id!r}; choose from {', '.join(CLASSES)}")
    if not 0 <= index < SIZES[split]:
        raise InputError(
            f"built-in dataset: index {index} of {split}/{class_id} not in 0..{SIZES[split] - 1}"
        )
    if size < 1:
        raise InputError(f"built-in dataset: size {size} is not a positive number of pixels")


def render(split: str, class_id: str, index: int, size: int) -> NDArray[np.uint8]:
    """Draw one image: (size, size, 3) RGB, the same scene at every size.

    Args:
        split: a key of `SIZES`.
        class_id: a member of `CLASSES`.
        index: 0 <= index < SIZES[split].
        size: height = width in pixels.

    Raises:
        InputError: an argument is not one of these; the message lists what is.
    """
    _check(split, class_id, index, size)
    key = f"impure/{split}/{class_id}/{index}"
    u = _uniform(key, 17)
    axis = (np.arange(size) + 0.5) * 2.0 / size - 1.0
    distance = _place(SHAPES[class_id], u[:4], axis)
    ground, ink = _colours(u[4:12])
    light = ((u[12] - 0.5) * axis[None, :] + (u[13] - 0.5) * axis[:, None])[..., None]
    clouds = 0.4 * u[14] * _noise(f"{key}/clouds", 5, size)
    grain = 0.2 * u[15] * u[15] * _noise(f"{key}/grain", GRAIN, size)
    back = (ground + 0.24 * light + clouds) * (1.0 - 0.25 * _inside(distance - 0.1, 0.3))
    gloss = np.clip(-distance, 0.0, 0.32)[..., None]
    front = ink * (0.88 + 0.6 * gloss) + 0.2 * light + 0.4 * clouds
    # One pixel of antialiasing, and up to an eighth of the side of defocus.
    cover = _inside(distance, 2.0 / size + 0.25 * u[16] * u[16])
    rgb = back + (front - back) * cover + grain
    levels: Array = np.floor(np.clip(rgb, 0.0, 1.0) * 255.0 + 0.5)
    return levels.astype(np.uint8)
