"""Input diversity: each image shrunk and padded at random, as two small matrix products."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from impure.pipeline.attacks.engine.threat_model import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class InputDiversity:
    """An attack's random transforms, one per step and image (Xie 2019, section 3.2); (steps, N).

    The host knows them, so that it never waits for the device to learn how many images change.

    Attributes:
        applied: whether the image is changed at this step at all.
        height, width: size of the shrunk image, pixels.
        top, left: its place on the black canvas of the original size, pixels.
    """

    applied: NDArray[np.bool_]
    height: NDArray[np.int64]
    width: NDArray[np.int64]
    top: NDArray[np.int64]
    left: NDArray[np.int64]

    @classmethod
    def draw(cls, problem: Problem, steps: int, resize_rate: float, probability: float) -> "InputDiversity":
        """Draw sizes from [⌊rate·side⌋, side), places from [0, what is left over), both whole numbers."""
        size, row, column, coin = problem.rng.uniform("diversity", (4, steps)).permute(1, 2, 0).numpy()
        full_height, full_width = problem.clean.shape[-2:]
        height, width = (
            _whole(size, max(int(full * resize_rate), 1), full) for full in (full_height, full_width)
        )
        return cls(
            applied=coin < probability,
            height=height,
            width=width,
            top=_whole(row, 0, full_height - height),
            left=_whole(column, 0, full_width - width),
        )

    def view(self, step: int, images: Tensor) -> Tensor:
        """Return what the target sees at this step."""
        chosen = np.flatnonzero(self.applied[step])
        if not len(chosen):
            return images
        values = (self.height, self.width, self.top, self.left)
        packed = torch.from_numpy(np.stack([chosen, *(value[step, chosen] for value in values)]))
        indices, height, width, top, left = packed.to(images.device, non_blocking=True)
        changed = shrink(images.index_select(0, indices), height, width, top, left)
        return images.index_copy(0, indices, changed)

    def select(self, rows: Sequence[int]) -> "InputDiversity":
        """Return the transforms of some of the images."""
        return InputDiversity(**{field.name: getattr(self, field.name)[:, rows] for field in fields(self)})


def _whole(uniform: NDArray[np.float64], low: int, high: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """Map U[0, 1) to the whole numbers low … high − 1."""
    return (low + uniform * (high - low)).astype(np.int64)


def shrink(images: Tensor, height: Tensor, width: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """Resize each image bilinearly to (height, width) and pad it with black to its old size at (top, left).

    Equals `F.interpolate(mode="bilinear", align_corners=False)` and `F.pad`, image by image, as W_y X W_xᵀ.

    Args:
        images: shape (N, C, H, W).
        height: int64 (N,), likewise width, top and left; pixels.
        width: see height.
        top: see height.
        left: see height.
    """
    rows = resampling(height, top, images.shape[-2], images.dtype)
    columns = resampling(width, left, images.shape[-1], images.dtype)
    return rows.unsqueeze(1) @ images @ columns.transpose(-1, -2).unsqueeze(1)


def resampling(size: Tensor, offset: Tensor, full: int, dtype: torch.dtype) -> Tensor:
    """Build the matrices that shrink a line of `full` pixels to `size` pixels placed at `offset`.

    Returns:
        shape (N, full, full): row o holds the weights of the source pixels for canvas pixel o, on the two
        next to its centre in the source; rows outside the shrunk line are zero.
    """
    place = torch.arange(full, device=size.device) - offset[:, None]
    source = ((place + 0.5) * (full / size.double()[:, None]) - 0.5).clamp_(0, full - 1)
    inside = (place >= 0) & (place < size[:, None])
    left = source.long()
    fraction = source - left
    matrices = torch.zeros(*left.shape, full, dtype=dtype, device=size.device)
    for pixel, weight in ((left, 1 - fraction), ((left + 1).clamp_(max=full - 1), fraction)):
        matrices.scatter_add_(2, pixel.unsqueeze(2), (weight * inside).to(dtype).unsqueeze(2))
    return matrices
