"""Training crops: the same window of a clean image and of all its attacked variants."""

import torch
from torch import Generator, Tensor

from impure.manifests.base.errors import InputError
from impure.purifier.data.dataset import Batch

CROPS = {224: 192, 299: 256}  # paper's streams: stored side -> side of the training crop


def crop_side(side: int, crop: int | None, multiple: int) -> int:
    """Side of the training crop of a stored side.

    Args:
        side: Of the stored image, pixels.
        crop: Wished side; None for the paper's: 192 of 224, 256 of 299, and else the whole side, each rounded
            down to what the network can take.
        multiple: What the network can take.

    Raises:
        InputError: The image is too small for the network or for the wish, or the network cannot take it.
    """
    if crop is not None and (crop > side or crop % multiple):
        raise InputError(
            f"a training crop of {crop} pixels: it must be a multiple of the network's {multiple} and fit "
            f"into every image, and there are sides of {side}"
        )
    chosen = crop or CROPS.get(side, side) // multiple * multiple
    if chosen == 0:
        raise InputError(f"there are images of {side} pixels, and the network takes multiples of {multiple}")
    return chosen


def paired_crops(batch: Batch, height: int, width: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Cut one random window from each distinct clean image, and the same one from all its attacked variants.

    Args:
        batch: The images, on the generator's device.
        height: Of the windows, pixels.
        width: Of the windows, pixels.
        generator: Source of the windows.

    Returns:
        Adversarial (B, 3, height, width) and clean images (U, 3, height, width), uint8.
    """
    clean, device = batch.clean, batch.clean.device
    room = (clean.shape[2] - height, clean.shape[3] - width)
    top, left = (torch.randint(free + 1, (len(clean),), generator=generator, device=device) for free in room)
    adversarial = _windows(batch.adversarial, top[batch.clean_row], left[batch.clean_row], height, width)
    return adversarial, _windows(clean, top, left, height, width)


def _windows(images: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """Cut a window from each image (N, 3, H, W) at its own corner (N,)."""
    device = images.device
    sample = torch.arange(len(images), device=device)[:, None, None]
    rows = (top[:, None] + torch.arange(height, device=device))[:, :, None]  # N, height, 1
    columns = (left[:, None] + torch.arange(width, device=device))[:, None, :]  # N, 1, width
    return images[sample, :, rows, columns].permute(0, 3, 1, 2)
