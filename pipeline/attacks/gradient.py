"""One loop for FGSM, PGD, MI-FGSM, DI²-FGSM and M-DI²-FGSM: steps along the sign of a gradient."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from impure.pipeline.attacks.base import (
    LEVELS,
    Problem,
    Proposal,
    label_loss,
    loss_and_gradient,
    spent,
    step_scale,
)
from impure.pipeline.attacks.checks import at_least, positive, within
from impure.pipeline.attacks.diversity import Diversity

View = Callable[[int, Tensor], Tensor]
"""What the target is shown at a step: (step, images) → images, differentiable."""


def ascend(
    problem: Problem, start: Tensor, *, alpha: float, steps: int, decay: float = 0.0, view: View | None = None
) -> Proposal:
    """Climb the cross-entropy by signed steps inside the budget.

    x ← clip(x + α·sign(g)), g ← μ·g + ∇J/mean|∇J| (Dong 2018, Eqs. 6 and 7; the mean instead of the sum of
    magnitudes scales every g alike and leaves its sign).

    Args:
        problem: target, images and budget.
        start: the first iterate; it is overwritten.
        alpha: the step size on pixels in [0, 1].
        steps: gradient evaluations.
        decay: the momentum factor μ; 0 steps along the bare gradient.
        view: input diversity, or None to show the target the iterate itself.
    """
    lower, upper = problem.lowest / LEVELS, problem.highest / LEVELS
    images, loss = start, label_loss(problem.labels)
    momentum = torch.zeros_like(images) if decay else None
    for step in range(steps):
        shown = problem.model if view is None else _through(view, step, problem)
        direction = loss_and_gradient(shown, images, loss)[2]
        if momentum is not None:
            direction = momentum.mul_(decay).add_(normalised(direction))
        images.addcmul_(direction.sign(), step_scale(direction, alpha))
        torch.clamp(images, lower, upper, out=images)
    return Proposal(images=images, grad_evals=spent(problem, steps))


def _through(view: View, step: int, problem: Problem) -> Callable[[Tensor], Tensor]:
    return lambda images: problem.model(view(step, images))


def normalised(gradient: Tensor) -> Tensor:
    """Divide each image's gradient by its mean magnitude; a zero gradient stays zero instead of NaN."""
    scale = gradient.abs().mean(dim=(1, 2, 3), keepdim=True)
    return gradient / scale.clamp_min(torch.finfo(gradient.dtype).tiny)


def random_start(problem: Problem) -> Tensor:
    """Draw the first iterate uniformly from the budget around the clean image (Madry 2018)."""
    noise = problem.draws.uniform("start", problem.clean.shape[1:]).to(problem.clean)
    return problem.project(noise.mul_(2).sub_(1).mul_(problem.eps).add_(problem.clean))


@dataclass(frozen=True, slots=True, kw_only=True)
class FGSM:
    """Fast gradient sign method: one step of size ε (Goodfellow 2015, section 4)."""

    def propose(self, problem: Problem) -> Proposal:
        """Take the one signed step."""
        return ascend(problem, problem.clean.clone(), alpha=problem.eps, steps=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PGD:
    """Projected gradient descent (Madry 2018, section 2.1), with or without a random start."""

    steps: int
    alpha_255: float
    random_start: bool

    def __post_init__(self) -> None:
        _check_steps(self.steps, self.alpha_255)

    def propose(self, problem: Problem) -> Proposal:
        """Climb from a random point of the budget."""
        start = random_start(problem) if self.random_start else problem.clean.clone()
        return ascend(problem, start, alpha=self.alpha_255 / LEVELS, steps=self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class MIFGSM:
    """Momentum iterative FGSM (Dong 2018, Algorithm 1); no random start."""

    steps: int
    alpha_255: float
    decay: float

    def __post_init__(self) -> None:
        _check_steps(self.steps, self.alpha_255)
        at_least("decay", self.decay, 0)

    def propose(self, problem: Problem) -> Proposal:
        """Climb with momentum from the clean image."""
        start = problem.clean.clone()
        return ascend(problem, start, alpha=self.alpha_255 / LEVELS, steps=self.steps, decay=self.decay)


@dataclass(frozen=True, slots=True, kw_only=True)
class DIFGSM:
    """DI²-FGSM, and with decay > 0 M-DI²-FGSM (Xie 2019, section 3.3)."""

    steps: int
    alpha_255: float
    decay: float
    resize_rate: float
    diversity_prob: float
    random_start: bool

    def __post_init__(self) -> None:
        _check_steps(self.steps, self.alpha_255)
        at_least("decay", self.decay, 0)
        within("resize_rate", self.resize_rate, 0.1, 0.99)
        within("diversity_prob", self.diversity_prob, 0, 1)

    def propose(self, problem: Problem) -> Proposal:
        """Climb the loss of randomly shrunk and padded images."""
        start = random_start(problem) if self.random_start else problem.clean.clone()
        diversity = Diversity.draw(problem, self.steps, self.resize_rate, self.diversity_prob)
        alpha = self.alpha_255 / LEVELS
        return ascend(problem, start, alpha=alpha, steps=self.steps, decay=self.decay, view=diversity.view)


def _check_steps(steps: int, alpha_255: float) -> None:
    at_least("steps", steps, 1)
    positive("alpha_255", alpha_255)
