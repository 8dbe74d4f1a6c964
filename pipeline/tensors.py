"""Between 8-bit pixels and float tensors: every conversion of the product, in one place."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from impure.manifests.base.errors import InputError
from impure.manifests.base.images import Pixels


def to_tensor(
    images: Sequence[Pixels],
    device: torch.device,
    memory_format: torch.memory_format = torch.channels_last,
) -> Tensor:
    """Stack pixels (H, W, 3) to one uint8 tensor (N, 3, H, W) on `device`, in a memory format."""
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return stacked.to(device).contiguous(memory_format=memory_format)


def to_pixels(batch: Tensor) -> list[Pixels]:
    """Split a uint8 tensor (N, 3, H, W) into pixels (H, W, 3)."""
    return list(np.ascontiguousarray(batch.permute(0, 2, 3, 1).cpu().numpy()))


def to_float(levels: Tensor) -> Tensor:
    """Turn bytes, uint8 of any shape, into what every network takes: float32 in [0, 1]."""
    return levels.to(torch.float32) / 255


def to_uint8(images: Tensor) -> Tensor:
    """Turn floats of any shape into bytes: clipped to [0, 1], rounded to the nearest of 256 levels.

    The result is detached and stays on its device. A NaN has no nearest level: callers that may hold one
    replace it first (`nan_to_num`).
    """
    return (images.detach().clamp(0, 1) * 255).round().to(torch.uint8)


def check_images(images: Tensor) -> None:
    """Make sure that a user's images are a batch of floats; costs no synchronisation with the device.

    Raises:
        InputError: They are not (N, C, H, W) with N >= 1, or not of a floating-point type.
    """
    if images.dim() != 4 or not len(images):
        raise InputError(
            f"images must be (N, C, H, W), N >= 1; these are {tuple(images.shape)}{_hint(images)}"
        )
    if not images.is_floating_point():
        raise InputError(
            f"images must be floating point in [0, 1]; these are {images.dtype}. Divide 8-bit images by 255"
        )


def _hint(images: Tensor) -> str:
    """What to do with a single image."""
    return "; for a single image give image[None]" if images.dim() == 3 else ""


def check_levels(images: Tensor) -> None:
    """Make sure that floats are no 8-bit levels, nor normalised or of [-1, 1]; waits for the device.

    What an attack's step leaves a little outside of [0, 1], and NaN, pass.

    Raises:
        InputError: They reach far beyond [0, 1].
    """
    lowest, highest = (float(end) for end in images.detach().aminmax())
    if lowest < -0.5 or highest > 1.5:
        raise InputError(
            f"images must lie in [0, 1]; these reach from {lowest:.4g} to {highest:.4g}. Divide 8-bit levels "
            "by 255; normalisation belongs into the model"
        )
