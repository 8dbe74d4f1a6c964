"""A value with another tensor's gradient: for steps whose own derivative is zero or missing."""

from typing import Any

import torch
from torch import Tensor


def straight_through(images: Tensor, value: Tensor) -> Tensor:
    """`value` to the last bit, with the gradient of `images` (Athalye et al. 2018, arXiv:1802.00420, BPDA).

    Adding `value - images` without its gradient to `images` would do the same up to rounding, by which the
    result may leave [0, 1].

    Args:
        images: Where the gradient goes, unchanged.
        value: Of the same shape and type; has no part in the gradient.
    """
    result: Tensor = _StraightThrough.apply(images, value)  # type: ignore[no-untyped-call]
    return result


class _StraightThrough(torch.autograd.Function):
    """Forwards the second tensor, and hands the gradient back to the first."""

    generate_vmap_rule = True  # for torch.func

    @staticmethod
    def forward(images: Tensor, value: Tensor) -> Tensor:
        return value.detach().clone()  # an input itself would be returned as a view of it

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        """Nothing is kept for the backward pass."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None
