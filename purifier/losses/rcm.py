"""RCM, the Random Combination Module: mixes a purified image with the attacked one (paper, section 3.2.2)."""

from typing import get_args

import torch
from torch import Generator, Tensor

from impure.manifests.base.errors import InputError
from impure.purifier.losses.recipe import Combination


def combine(
    purified: Tensor, adversarial: Tensor, patch: int, variant: Combination, generator: Generator
) -> Tensor:
    """Leave some adversarial patches in the purified image: x' = x̂ u + x (1 - u) (Eq. 10).

    Args:
        purified: x̂, (B, C, H, W), any value space.
        adversarial: x, the adversarial image of Algorithm 1, in the same space.
        patch: Side in pixels of the squares on which u is constant; H and W are multiples of it.
        variant: `code`: of n segments, n drawn from {2, 3, 4}, of a random order of a sample's patches, one
            stays adversarial (u = 0), the others do not (u = 1). `release`: the same with one n for the whole
            batch, as the authors' program has it. `paper`: u ~ U[0,1].
        generator: Source of the choices, on the images' device.

    Raises:
        InputError: The variant is unknown, or a side is no multiple of `patch`.
    """
    if variant not in get_args(Combination):
        raise InputError(f"RCM: no variant {variant!r}; choose from {', '.join(get_args(Combination))}")
    batch, _, height, width = purified.shape
    if height % patch or width % patch:
        raise InputError(f"RCM: {height}x{width} pixels are no multiples of {patch}; crop or pad")
    rows, columns = height // patch, width // patch
    weights = _draw_weights(batch, rows * columns, variant, generator).to(purified.dtype)
    u = weights.view(batch, 1, rows, columns).repeat_interleave(patch, 2).repeat_interleave(patch, 3)
    return purified * u + adversarial * (1 - u)


def _draw_weights(batch: int, patches: int, variant: Combination, generator: Generator) -> Tensor:
    """The purified image's weight in each patch (batch, patches): see `combine`."""
    uniform = torch.rand(batch, patches, generator=generator, device=generator.device)
    if variant == "paper":
        return uniform
    counts = 1 if variant == "release" else batch
    segments = torch.randint(2, 5, (counts, 1), generator=generator, device=generator.device)
    rank = uniform.argsort(dim=1, stable=True).argsort(dim=1, stable=True)
    return rank >= patches // segments
