"""Auto-PGD: signed steps with momentum whose size halves when progress stops (Croce & Hein 2020)."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from impure.pipeline.attacks.engine.criteria import Criterion, Targeted, top_other_classes
from impure.pipeline.attacks.engine.gradients import loss_and_gradient, per_image, step_scale
from impure.pipeline.attacks.engine.iterate import iterate, not_fooled, run_in_sequence
from impure.pipeline.attacks.engine.parameter_checks import at_least, within
from impure.pipeline.attacks.engine.threat_model import Problem, Proposal

MOMENTUM = 0.75
"""α of Algorithm 1: the weight of the fresh step against the previous move."""

Loss = Callable[[Criterion, Tensor], Tensor]
"""A goal and logits (N, classes) to the loss to climb, (N,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class APGD:
    """Auto-PGD for L∞ (Croce & Hein 2020, Algorithm 1); the losses are its subclasses.

    Checkpoints and the oscillation count follow the authors' published program, against which results are
    compared: whole numbers of steps, and the first loss is compared with 0 instead of the start's loss. The
    gradient at the last iterate, which nothing uses, is not computed.

    Attributes:
        steps: moves; a gradient each, and a forward pass after the last.
        rho: the share of rising steps below which a checkpoint halves the step.
        early_stop: whether images that are fooled as stored leave the batch.
    """

    steps: int
    rho: float
    early_stop: bool

    def __post_init__(self) -> None:
        at_least("steps", self.steps, 1)
        within("rho", self.rho, 0, 1)

    def maximise(self, problem: Problem, loss: Loss, loss_criterion: Criterion) -> Proposal:
        """Run Algorithm 1 once from a random start.

        Args:
            problem: images, budget and the goal that decides what is handed back.
            loss: the loss to climb.
            loss_criterion: whose loss it is; another goal than the problem's in the ensemble's targeted runs.
        """
        start = APGDState.start(problem, loss, loss_criterion, self)
        return iterate(start, self.steps, early_stop=self.early_stop)


@dataclass(frozen=True, slots=True, kw_only=True)
class APGDCE(APGD):
    """Auto-PGD on the cross-entropy."""

    def propose(self, problem: Problem) -> Proposal:
        """Climb the cross-entropy."""
        return self.maximise(problem, _cross_entropy, problem.criterion)


@dataclass(frozen=True, slots=True, kw_only=True)
class APGDDLR(APGD):
    """Auto-PGD on the difference of logits ratio, which is scale-free."""

    def propose(self, problem: Problem) -> Proposal:
        """Climb DLR."""
        return self.maximise(problem, _dlr, problem.criterion)


@dataclass(frozen=True, slots=True, kw_only=True)
class APGDT(APGD):
    """Auto-PGD on the targeted DLR, towards one likely class after another (Croce & Hein 2020, section 5).

    Attributes:
        aims: how many classes to head for: those with the largest logits when clean.
    """

    target_classes: int

    def __post_init__(self) -> None:
        super(APGDT, self).__post_init__()
        at_least("target_classes", self.target_classes, 1)

    def propose(self, problem: Problem) -> Proposal:
        """Run once for each class, on the images that are not fooled yet."""
        with torch.no_grad():
            classes = top_other_classes(problem.model(problem.clean), problem.labels, self.target_classes)
        tries = [
            partial(self._towards, place, target_classes)
            for place, target_classes in enumerate(classes.unbind(1))
        ]
        return run_in_sequence(problem, tries)

    def _towards(self, place: int, target_classes: Tensor, problem: Problem, indices: Tensor) -> Proposal:
        loss_criterion = Targeted(problem.labels, target_classes[indices])
        return self.maximise(problem.with_part(f"aim-{place}"), _dlr, loss_criterion)


def _cross_entropy(criterion: Criterion, logits: Tensor) -> Tensor:
    return criterion.cross_entropy(logits)


def _dlr(criterion: Criterion, logits: Tensor) -> Tensor:
    return criterion.dlr(logits)


@dataclass(slots=True, kw_only=True)
class APGDState:
    """Algorithm 1 under way: a row for each image; `loss` is f, `best_*` belong to x_max."""

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
    def start(cls, problem: Problem, loss: Loss, loss_criterion: Criterion, attack: APGD) -> "APGDState":
        """Evaluate a random point of the budget's surface."""
        noise = problem.rng.uniform("start", problem.clean.shape[1:]).mul_(2).sub_(1)
        noise /= noise.abs().amax(dim=(1, 2, 3), keepdim=True)
        images = problem.project(noise.to(problem.clean).mul_(problem.eps).add_(problem.clean))
        losses, logits, gradient = loss_and_gradient(problem.model, images, partial(loss, loss_criterion))
        return cls(
            problem=problem,
            loss_criterion=loss_criterion,
            loss_function=loss,
            rho=attack.rho,
            steps=attack.steps,
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

    def select(self, indices: Tensor) -> "APGDState":
        """Return the state of some of the images."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        rows: dict[str, Any] = {
            name: value[indices] for name, value in values.items() if isinstance(value, Tensor)
        }
        return replace(
            self,
            problem=self.problem.select(indices),
            loss_criterion=self.loss_criterion.select(indices),
            **rows,
        )

    def not_fooled(self) -> Tensor:
        """See `IterativeAttack`."""
        return not_fooled(self.problem, self.images)

    def result(self) -> Tensor:
        """Return the best iterate that reaches the goal, else the best by loss."""
        return self.kept

    def step(self, step: int) -> None:
        """Move, look, and at a checkpoint halve the step of images that are stuck."""
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
                logits = self.problem.model(self.images)
            self.loss = loss(logits)
        else:
            self.loss, logits, self.gradient = loss_and_gradient(self.problem.model, self.images, loss)
        return logits

    def _record(self, logits: Tensor) -> None:
        """Note the new iterate: the best by loss (x_max), and the one to hand back.

        Handed back is the best by loss among those that reach the goal, if there is one: with cross-entropy a
        higher loss may still be classified correctly.
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
    interval, shortest, shrinkage = (max(int(share * steps), 1) for share in (0.22, 0.06, 0.03))
    found, last = {}, -1
    while last + interval < steps:
        last += interval
        found[last] = interval
        interval = max(interval - shrinkage, shortest)
    return found
