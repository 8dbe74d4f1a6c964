"""Draws every random choice of one pass of RIAE beforehand: the network itself is a plain function.

So a pass can be repeated, compiled, exported with its noise as an input, or attacked with fixed noise.
"""

from typing import Literal, NamedTuple, get_args

import torch
from torch import Generator, Tensor

from impure.manifests.base.errors import InputError
from impure.purifier.riae.patches import random_partition, uniform_partition
from impure.purifier.riae.riae_config import FEATURE_NOISE, IMAGE_NOISE, RIAEConfig

Partition = Literal["uniform", "random"]

# Diffusion steps t in training, the second excluded, as in the authors' release; of the noise the paper's
# section 5.1 says only that its intensity is random. Those at test time stand in RIAEConfig.
IMAGE_STEPS = (200, 600)
FEATURE_STEPS = (200, 1000)


class Randomness(NamedTuple):
    """The random choices of one pass, for each sample of the batch; L patches in each of S subsets."""

    partition: Tensor  # B, S, L: patch indices
    corner: Tensor  # B, 2: row and column in the position table where the image lies
    image_step: Tensor  # B: diffusion step t of the image noise
    feature_step: Tensor  # B, or B, S: diffusion step t of the feature noise
    image_noise: Tensor  # B, S, L, 3pp, standard normal; (0,) where the masking mode has none
    feature_noise: Tensor  # B, S, L, d, likewise


def draw_for_training(
    config: RIAEConfig, images: Tensor, generator: Generator, *, steps_per_subset: bool = False
) -> Randomness:
    """Random partition, position window and noise levels, for each sample by itself.

    Args:
        config: Of the network.
        images: (B, 3, H, W); both sides multiples of `config.multiple`.
        generator: Source of every choice, on the images' device.
        steps_per_subset: Draw the step of the feature noise for each subset, as the authors' program does.

    Raises:
        InputError: A side is no such multiple.
    """
    rows, columns = grid_of(config, images)
    batch = len(images)

    def integers(low: int, high: int, *more: int) -> Tensor:
        return torch.randint(low, high, (batch, *more), generator=generator, device=generator.device)

    return Randomness(
        random_partition(batch, rows * columns, generator, config.subsets),
        torch.stack([integers(0, max(config.grid - side, 0) + 1) for side in (rows, columns)], dim=1),
        integers(*IMAGE_STEPS),
        integers(*FEATURE_STEPS, *([config.subsets] if steps_per_subset else [])),
        *_noises(config, images, rows * columns, generator),
    )


def draw_for_test(
    config: RIAEConfig, images: Tensor, generator: Generator, partition: Partition = "uniform"
) -> Randomness:
    """The centred position window and the noise levels of the test (see `draw_for_training`).

    Raises:
        InputError: A side is no multiple of `config.multiple`, or `partition` is unknown.
    """
    if partition not in get_args(Partition):
        raise InputError(f"partition {partition!r} is unknown; choose from {', '.join(get_args(Partition))}")
    rows, columns = grid_of(config, images)
    batch, device = len(images), images.device
    if partition == "uniform":
        indices = uniform_partition(batch, rows, columns, device, config.subsets)
    else:
        indices = random_partition(batch, rows * columns, generator, config.subsets)
    corner = [max(config.grid - side, 0) // 2 for side in (rows, columns)]
    return Randomness(
        indices,
        torch.tensor(corner, device=device).expand(batch, 2),
        torch.full((batch,), config.image_step, device=device),
        torch.full((batch,), config.feature_step, device=device),
        *_noises(config, images, rows * columns, generator),
    )


def grid_of(config: RIAEConfig, images: Tensor) -> tuple[int, int]:
    """Rows and columns of patches.

    Raises:
        InputError: A side is no multiple of `config.multiple`.
    """
    height, width = images.shape[2:]
    if height % config.multiple or width % config.multiple:
        raise InputError(f"RIAE: {height}x{width} pixels are no multiples of {config.multiple}; crop or pad")
    return height // config.patch, width // config.patch


def _noises(config: RIAEConfig, images: Tensor, patches: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Image noise and feature noise."""

    def noise(modes: tuple[str, ...], width: int) -> Tensor:
        shape = (
            (len(images), config.subsets, patches // config.subsets, width) if config.mask in modes else (0,)
        )
        return torch.randn(shape, generator=generator, device=generator.device, dtype=images.dtype)

    return noise(IMAGE_NOISE, config.values), noise(FEATURE_NOISE, config.decoder_dim)
