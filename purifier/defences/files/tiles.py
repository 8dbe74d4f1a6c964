"""Purifies images larger than the network's position table in overlapping tiles.

Time and memory of attention grow with the square of an image's area, and the network has never seen positions
beyond its table: a photograph of 2400 x 1600 pixels as a whole takes minutes and gigabytes.
"""

from itertools import product

import torch
from torch import Generator, Tensor

from impure.purifier.riae.model import RIAE
from impure.purifier.riae.noise import Partition
from impure.purifier.riae.riae_config import RIAEConfig

OVERLAP = 8  # a tile shares at least its side divided by this with its neighbour


def tile_side(config: RIAEConfig) -> int:
    """Side in pixels of the largest image whose patches all have a place in the position table."""
    return max(config.grid * config.patch // config.multiple, 1) * config.multiple


def needs_tiles(config: RIAEConfig, height: int, width: int) -> bool:
    """Whether an image is too large to be purified as a whole."""
    return max(height, width) > tile_side(config)


def purify_in_tiles(
    riae: RIAE, images: Tensor, *, seed: int = 0, samples: int = 1, partition: Partition = "uniform"
) -> Tensor:
    """Purify images of any size, large ones in tiles of `tile_side` that fade into each other.

    Args:
        riae: The purifier.
        images: RGB in [0,1] (B, 3, H, W). Those that need no tiles go through `RIAE.purify` as they are.
        seed: Of the noise, which goes on from tile to tile.
        samples: Purifications to average.
        partition: How patches are partitioned.

    Returns:
        RGB in [0,1] (B, 3, H, W).

    Raises:
        InputError: See `RIAE.purify`.
    """
    height, width = images.shape[-2:]
    if not needs_tiles(riae.config, height, width):
        return riae.purify(images, seed=seed, samples=samples, partition=partition)
    side = tile_side(riae.config)
    generator = Generator(images.device).manual_seed(seed)
    weight = _fade(min(side, height), side)[:, None] * _fade(min(side, width), side)
    weight = weight.to(images)
    total, weights = torch.zeros_like(images), torch.zeros_like(images[:1, :1])
    for top, left in product(_starts(height, side), _starts(width, side)):
        window = (..., slice(top, top + side), slice(left, left + side))
        purified = riae.purify(images[window], seed=generator, samples=samples, partition=partition)
        total[window] += weight * purified
        weights[window] += weight
    return (total / weights).clamp(0, 1)


def _starts(length: int, side: int) -> list[int]:
    """Where tiles begin along one axis: as few as can be with the least overlap, at even distances."""
    if length <= side:
        return [0]
    step = side - side // OVERLAP
    count = -(-(length - side) // step) + 1
    return [index * (length - side) // (count - 1) for index in range(count)]


def _fade(length: int, side: int) -> Tensor:
    """A tile's weight along one axis (length,): one inside, falling towards both ends, never zero."""
    place = torch.arange(1, length + 1)
    ramp = torch.minimum(place, place.flip(0)) / max(side // OVERLAP, 1)
    return ramp.clamp(max=1)
