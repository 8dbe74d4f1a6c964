"""What one pass of an image through defence and target costs, in operations and in seconds."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from impure.pipeline.attacks.engine.criteria import Untargeted
from impure.pipeline.attacks.engine.gradients import Model, loss_and_gradient
from impure.purifier.evaluation.adaptive.adaptive_config import Cell

REPEATS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PassCost:
    """Of one image: forward, and what a gradient takes on top; in FLOP or in seconds."""

    forward: float
    backward: float


Measure = Callable[[Model, Tensor, Tensor], PassCost]
"""Takes a model, images in [0,1] (B, 3, H, W) and their labels (B,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Of the bare target, and of defence and target together."""

    target: PassCost
    defended: PassCost

    def of(self, cell: Cell, passes: float, grad_evals: float) -> float:
        """What so many forward passes and gradients of an image cost the attacker of a cell."""
        forward = self.target if cell.knowledge == "blind" else self.defended
        backward = self.target if cell.knowledge in ("blind", "straight-through") else self.defended
        return passes * forward.forward + grad_evals * backward.backward


def flop_of(model: Model, images: Tensor, labels: Tensor) -> PassCost:
    """Floating-point operations, a multiplication with its addition as two, of [0,1] images (B, 3, H, W).

    Only matrix products, convolutions and attention count, as PyTorch's counter has it.
    """

    def inner(images: Tensor) -> Tensor:
        return model(images.view_as(images))  # the counter's hooks refuse a leaf

    forward = _flop(lambda: _forward(model, images))
    both = _flop(lambda: _gradient(inner, images, labels))
    return PassCost(forward=forward / len(images), backward=(both - forward) / len(images))


def _flop(work: Callable[[], Tensor]) -> int:
    """Of some work; attention is taken apart, since the counter does not know it on every device."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def seconds_of(model: Model, images: Tensor, labels: Tensor) -> PassCost:
    """Seconds, the least of `REPEATS` measurements after one that warms up, of [0,1] images (B, 3, H, W)."""
    forward = _seconds(lambda: _forward(model, images)) / len(images)
    both = _seconds(lambda: _gradient(model, images, labels)) / len(images)
    return PassCost(forward=forward, backward=max(both - forward, 0.0))


def _seconds(work: Callable[[], Tensor]) -> float:
    """Of some work, until the device has its result."""
    work()
    measured = []
    for _ in range(REPEATS):
        started_at = time.perf_counter()
        work().sum().item()
        measured.append(time.perf_counter() - started_at)
    return min(measured)


@torch.no_grad()
def _forward(model: Model, images: Tensor) -> Tensor:
    return model(images)


def _gradient(model: Model, images: Tensor, labels: Tensor) -> Tensor:
    return loss_and_gradient(model, images, Untargeted(labels).cross_entropy)[2]
