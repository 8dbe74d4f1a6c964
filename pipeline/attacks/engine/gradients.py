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
    model: Model, images: Tensor, loss: Callable[[Tensor], Tensor], samples: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Differentiate a loss by the images alone; parameters are never touched.

    Args:
        model: the target.
        images: shape (N, C, H, W).
        loss: maps logits (N, classes) to one loss per image, (N,). It is summed over the batch, so that an
            image's gradient does not depend on how many neighbours it has.
        samples: how often a random target is asked; everything returned is the mean over its answers
            (expectation over transformation, Athalye et al. 2018, arXiv:1707.07397).

    Returns:
        losses (N,), logits (N, classes), gradient (N, C, H, W), all detached.
    """
    if samples == 1:
        return _once(model, images, loss)
    losses, logits, gradient = _once(model, images, loss)
    for _ in range(samples - 1):
        for total, part in zip((losses, logits, gradient), _once(model, images, loss), strict=True):
            total += part
    return losses / samples, logits / samples, gradient / samples


def mean_logits(model: Model, images: Tensor, samples: int) -> Tensor:
    """The mean of a random target's logits (N, classes) over `samples` answers; differentiable."""
    logits = model(images)
    for _ in range(samples - 1):
        logits = logits + model(images)
    return logits / samples if samples > 1 else logits


def _once(model: Model, images: Tensor, loss: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Losses, logits and gradient of one answer."""
    with torch.enable_grad():
        leaf = images.detach().requires_grad_()
        logits = model(leaf)
        losses = loss(logits)
        (gradient,) = torch.autograd.grad(losses.sum(), leaf)
    return losses.detach(), logits.detach(), gradient
