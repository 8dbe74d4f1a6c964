"""Gradients by the images alone, and what turns them into steps."""

from collections.abc import Callable

import torch
from torch import Tensor

Model = Callable[[Tensor], Tensor]
"""Maps float images in [0, 1], shape (N, C, H, W), to logits of shape (N, classes)."""


def per_image(values: Tensor) -> Tensor:
    """Reshape (N,) to (N, 1, 1, 1), to broadcast over images."""
    return values.view(-1, 1, 1, 1)


def step_scale(direction: Tensor, size: float | Tensor) -> Tensor:
    """Return the step size per image, (N, 1, 1, 1), or NaN where the direction is not finite.

    `torch.sign` maps NaN to 0: without this, a broken gradient would leave the clean image as the result.
    """
    return size + direction.sum(dim=(1, 2, 3), keepdim=True) * 0


def loss_and_gradient(
    model: Model, images: Tensor, loss: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Differentiate a loss by the images alone; parameters are never touched.

    Args:
        model: the target.
        images: shape (N, C, H, W).
        loss: maps logits (N, classes) to one loss per image, (N,). It is summed over the batch, so that an
            image's gradient does not depend on how many neighbours it has.

    Returns:
        losses (N,), logits (N, classes), gradient (N, C, H, W), all detached.
    """
    with torch.enable_grad():
        leaf = images.detach().requires_grad_()
        logits = model(leaf)
        losses = loss(logits)
        (gradient,) = torch.autograd.grad(losses.sum(), leaf)
    return losses.detach(), logits.detach(), gradient
