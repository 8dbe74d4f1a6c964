"""Running attacks: all images at once, finished ones leaving the batch, one try after another."""

from collections.abc import Callable, Iterable
from typing import Protocol, Self

import torch
from torch import Tensor

from impure.pipeline.attacks.engine.threat_model import Problem, Proposal, spent

Try = Callable[[Problem, Tensor], Proposal]
"""What is tried on some of the images: their problem, and which they are (int64 indices)."""


class IterativeAttack(Protocol):
    """An iterative attack under way; its state has a row for each image."""

    problem: Problem
    images: Tensor
    """The current iterates, (N, C, H, W)."""

    def step(self, step: int) -> None:
        """Move on; `step` counts from 0."""

    def standing(self) -> Tensor:
        """Return which images the attack has yet to fool (see `not_fooled`)."""

    def take(self, indices: Tensor) -> Self:
        """Return the walk of some of the images."""

    def result(self) -> Tensor:
        """Return the images to hand back where no iterate was seen to reach the goal."""


def iterate(start: IterativeAttack, steps: int, *, early_stop: bool, cost: int = 1) -> Proposal:
    """Take the steps, all images at once.

    Args:
        start: the attack before its first step.
        steps: the most steps to take.
        early_stop: drop images from the batch as soon as they reach the goal as stored. Looking costs a
            forward pass a step and a wait for the device; without it the host never waits.
        cost: gradient evaluations of one step.
    """
    if early_stop:
        return _walk_until_reached(start, steps, cost)
    for step in range(steps):
        start.step(step)
    return Proposal(images=start.result(), grad_evals=spent(start.problem, steps * cost))


def _walk_until_reached(now: IterativeAttack, steps: int, cost: int) -> Proposal:
    images, grad_evals = now.images.clone(), spent(now.problem, 0)
    left = torch.arange(len(images), device=images.device)
    for step in range(steps):
        now.step(step)
        grad_evals[left] += cost
        stay = now.standing()
        if len(stay) < len(left):
            images[left] = now.images
            now, left = now.take(stay), left[stay]
        if not len(left):
            return Proposal(images=images, grad_evals=grad_evals)
    images[left] = now.result()
    return Proposal(images=images, grad_evals=grad_evals)


def in_sequence(problem: Problem, tries: Iterable[Try]) -> Proposal:
    """Make one try after another, each on the images that all before it left standing.

    An image that withstands every try keeps its first proposal.
    """
    images, grad_evals = problem.clean, spent(problem, 0)
    left = torch.arange(len(images), device=images.device)
    for number, attempt in enumerate(tries):
        part = problem.take(left)
        proposal = attempt(part, left)
        grad_evals[left] += proposal.grad_evals
        stay = not_fooled(part, proposal.images)
        if number == 0:
            images = proposal.images.clone()
        keep = torch.ones_like(left, dtype=torch.bool).index_fill_(0, stay, False)
        images[left[keep]] = proposal.images[keep]
        left = left[stay]
        if not len(left):
            break
    return Proposal(images=images, grad_evals=grad_evals)


@torch.no_grad()
def not_fooled(problem: Problem, images: Tensor) -> Tensor:
    """Return which images, as they would be stored, withstand the attack so far; int64 indices."""
    return unreached(problem, problem.model(problem.stored(images)))


def unreached(problem: Problem, logits: Tensor) -> Tensor:
    """Return which images' logits do not reach the goal; int64 indices.

    Where the target answers NaN they count as fallen, so that the base sees them and refuses.
    """
    fallen = problem.criterion.reached(logits) | ~logits.isfinite().all(1)
    return (~fallen).nonzero().flatten()
