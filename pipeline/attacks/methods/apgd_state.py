"""The state and the steps of Auto-PGD (Croce & Hein 2020, Algorithm 1)."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from impure.pipeline.attacks.engine.batch_rows import on_device
from impure.pipeline.attacks.engine.criteria import Criterion, Loss
from impure.pipeline.attacks.engine.gradients import loss_and_gradient, per_image, step_scale
from impure.pipeline.attacks.engine.iterate import not_fooled
from impure.pipeline.attacks.engine.threat_model import Problem

MOMENTUM = 0.75
"""α of Algorithm 1: the weight of the fresh step against the previous move."""


@dataclass(slots=True, kw_only=True)
class APGDState:
    """The state of Algorithm 1, with a row for each image; `loss` is f, `best_*` belong to x_max."""

    problem: Problem
    loss_criterion: Criterion
    loss_function: Loss
    rho: float
    steps: int
    images: Tensor
    previous: Tensor
    gradient: Tensor
    loss: Tensor
    best_images: Tensor
    best_gradient: Tensor
    best_loss: Tensor
    kept: Tensor
    kept_loss: Tensor
    reached: Tensor
    step_size: Tensor
    rises: Tensor
    last_loss: Tensor
    best_at_check: Tensor
    reduced: Tensor

    @classmethod
    def start(
        cls, problem: Problem, loss: Loss, loss_criterion: Criterion, *, steps: int, rho: float
    ) -> "APGDState":
        """Evaluate a random point of the budget's surface."""
        noise = problem.rng.uniform("start", problem.clean.shape[1:]).mul_(2).sub_(1)
        noise /= noise.abs().amax(dim=(1, 2, 3), keepdim=True)
        images = problem.project(
            noise.to(problem.clean, non_blocking=True).mul_(problem.eps).add_(problem.clean)
        )
        losses, logits, gradient = loss_and_gradient(
            problem.model, images, partial(loss, loss_criterion), problem.eot
        )
        return cls(
            problem=problem,
            loss_criterion=loss_criterion,
            loss_function=loss,
            rho=rho,
            steps=steps,
            images=images,
            previous=images.clone(),
            gradient=gradient,
            loss=losses,
            best_images=images.clone(),
            best_gradient=gradient.clone(),
            best_loss=losses,
            kept=images.clone(),
            kept_loss=losses,
            reached=problem.criterion.reached(logits),
            step_size=torch.full_like(losses, 2 * problem.eps),
            rises=torch.zeros_like(losses),
            last_loss=torch.zeros_like(losses),
            best_at_check=losses,
            reduced=torch.ones_like(losses, dtype=torch.bool),
        )

    def select(self, selected: Sequence[int]) -> "APGDState":
        """Return the state of some of the images."""
        indices = on_device(selected, self.images.device)
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        rows: dict[str, Any] = {
            name: value[indices] for name, value in values.items() if isinstance(value, Tensor)
        }
        return replace(
            self,
            problem=self.problem.select(selected),
            loss_criterion=self.loss_criterion.select(indices),
            **rows,
        )

    def not_fooled(self) -> Tensor:
        """See `IterativeAttack`."""
        return not_fooled(self.problem, self.images)

    def result(self) -> Tensor:
        """Return the best iterate that reaches the criterion, else the best by loss."""
        return self.kept

    def step(self, step: int) -> None:
        """Move, evaluate, and at a checkpoint halve the step size of images that are stuck."""
        self._move(1.0 if step == 0 else MOMENTUM)
        self._record(self._evaluate(last=step == self.steps - 1))
        if interval := checkpoints(self.steps).get(step):
            self._check(self.rho * interval)

    def _move(self, fresh: float) -> None:
        """Set z = P(x + η·sign(g)), then x ← P(x + α(z − x) + (1 − α)(x − x_prev))."""
        lower, upper = self.problem.lower, self.problem.upper
        size = step_scale(self.gradient, per_image(self.step_size))
        target = torch.addcmul(self.images, self.gradient.sign(), size)
        torch.clamp(target, lower, upper, out=target)
        last_move = self.images - self.previous
        self.previous = self.images
        target.sub_(self.images).mul_(fresh).add_(self.images).add_(last_move, alpha=1 - fresh)
        self.images = torch.clamp(target, lower, upper, out=target)

    def _evaluate(self, *, last: bool) -> Tensor:
        """Update loss and gradient; returns the logits."""
        loss = partial(self.loss_function, self.loss_criterion)
        if last:
            with torch.no_grad():
                logits = self.problem.logits(self.images)
            self.loss = loss(logits)
        else:
            self.loss, logits, self.gradient = loss_and_gradient(
                self.problem.model, self.images, loss, self.problem.eot
            )
        return logits

    def _record(self, logits: Tensor) -> None:
        """Record the new iterate where it is the best by loss (x_max), and where it is the one to return.

        Returned is the best by loss among those that reach the criterion, if there is one: an image of higher
        cross-entropy may still be classified correctly.
        """
        reached = self.problem.criterion.reached(logits)
        # `~(a <= b)`: a NaN counts as better, so that it surfaces in the proposal instead of hiding.
        better = ~(self.loss <= self.best_loss)
        same = reached == self.reached
        keep = torch.where(same, ~(self.loss <= self.kept_loss), reached | self.loss.isnan())
        _overwrite(better, (self.best_images, self.images), (self.best_gradient, self.gradient))
        _overwrite(keep, (self.kept, self.images))
        self.best_loss = torch.where(better, self.loss, self.best_loss)
        self.kept_loss = torch.where(keep, self.loss, self.kept_loss)
        self.reached = self.reached | reached
        self.rises = self.rises + (self.loss > self.last_loss)
        self.last_loss = self.loss

    def _check(self, enough: float) -> None:
        """Halve the step of stuck images and put them back at x_max (Conditions 1 and 2)."""
        stalled = ~self.reduced & (self.best_at_check >= self.best_loss)
        self.reduced = (self.rises <= enough) | stalled
        self.best_at_check = self.best_loss
        self.rises = torch.zeros_like(self.rises)
        self.step_size = torch.where(self.reduced, self.step_size / 2, self.step_size)
        _overwrite(self.reduced, (self.images, self.best_images))
        self.gradient = torch.where(per_image(self.reduced), self.best_gradient, self.gradient)


def _overwrite(where: Tensor, *pairs: tuple[Tensor, Tensor]) -> None:
    """Copy source to target in place where the mask (N,) is set; no wait for the device."""
    mask = per_image(where)
    for target, source in pairs:
        torch.where(mask, source, target, out=target)


def checkpoints(steps: int) -> dict[int, int]:
    """Return step → steps since the checkpoint before (section 3.2 with p₁ = 0.22, in whole steps)."""
    interval = max(int(0.22 * steps), 1)
    shortest = max(int(0.06 * steps), 1)
    shrinkage = max(int(0.03 * steps), 1)
    intervals = {}
    last = -1
    while last + interval < steps:
        last += interval
        intervals[last] = interval
        interval = max(interval - shrinkage, shortest)
    return intervals
