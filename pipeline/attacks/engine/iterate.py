"""The loop of iterative attacks, which finished images leave, and attempts one after another."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, Self

import torch
from torch import Tensor

from impure.pipeline.attacks.engine.batch_rows import may_leave, on_device, rows_where
from impure.pipeline.attacks.engine.gradients import per_image
from impure.pipeline.attacks.engine.threat_model import Problem, Proposal, grad_evals_of

Attempt = Callable[[Problem, Tensor], Proposal]
"""Attacks some of the images: takes their problem, and which images they are (int64 indices)."""


class IterativeAttack(Protocol):
    """The state of an iterative attack, with a row for each image."""

    problem: Problem
    images: Tensor
    """The current iterates, (N, C, H, W)."""

    def step(self, step: int) -> None:
        """Take one step; `step` counts from 0."""

    def not_fooled(self) -> Tensor:
        """Return which images do not fool the target yet, bool, (N,) (see `not_fooled`)."""

    def select(self, rows: Sequence[int]) -> Self:
        """Return the state of some of the images."""

    def result(self) -> Tensor:
        """Return the images to propose, of those that have not left the batch."""


def iterate(start: IterativeAttack, steps: int, *, early_stop: bool, cost: int = 1) -> Proposal:
    """Take the steps, all images at once.

    Args:
        start: the attack before its first step.
        steps: the most steps to take.
        early_stop: propose each image's first iterate that reaches the criterion as stored, and drop such
            images from the batch (when: see `may_leave`). To know that costs a forward pass a step and now
            and then a wait for the device; without it the host never waits.
        cost: gradient evaluations of one step. Those of finished images still in the batch do not count.
    """
    if early_stop:
        return _iterate_with_early_stop(start, steps, cost)
    for step in range(steps):
        start.step(step)
    return Proposal(images=start.result(), grad_evals=grad_evals_of(start.problem, steps * cost))


def _iterate_with_early_stop(state: IterativeAttack, steps: int, cost: int) -> Proposal:
    images, grad_evals = state.images.clone(), grad_evals_of(state.problem, 0)
    device = images.device
    indices = torch.arange(len(images), device=device)
    running, first_fooling = torch.ones_like(indices, dtype=torch.bool), state.images
    for step in range(1, steps + 1):
        state.step(step - 1)
        grad_evals[indices] += cost * running
        first_fooling = torch.where(per_image(running), state.images, first_fooling)
        running = running & state.not_fooled()
        if step == steps or not may_leave(step, device):
            continue
        rows = rows_where(running)
        if len(rows) < len(running):
            images[indices] = first_fooling
            if not rows:
                return Proposal(images=images, grad_evals=grad_evals)
            stay = on_device(rows, device)
            state, first_fooling = state.select(rows), first_fooling[stay]
            indices, running = indices[stay], running[stay]
    images[indices] = torch.where(per_image(running), state.result(), first_fooling)
    return Proposal(images=images, grad_evals=grad_evals)


def run_in_sequence(problem: Problem, attempts: Iterable[Attempt]) -> Proposal:
    """Run one attempt after another, each on the images that all before it did not fool.

    An image that withstands every attempt keeps its first proposal. The host waits once for each attempt.
    """
    images, grad_evals = problem.clean, grad_evals_of(problem, 0)
    remaining = list(range(len(images)))
    for number, attempt in enumerate(attempts):
        part, indices = problem.select(remaining), on_device(remaining, images.device)
        proposal = attempt(part, indices)
        grad_evals[indices] += proposal.grad_evals
        withstands = not_fooled(part, proposal.images)
        if number == 0:
            images = proposal.images.clone()
        images[indices] = torch.where(per_image(withstands), images[indices], proposal.images)
        remaining = [remaining[row] for row in rows_where(withstands)]
        if not remaining:
            break
    return Proposal(images=images, grad_evals=grad_evals)


@torch.no_grad()
def not_fooled(problem: Problem, images: Tensor) -> Tensor:
    """Return which images, as they would be stored, withstand the attack so far; bool, (N,)."""
    return not_reached(problem, problem.logits(problem.stored(images)))


def not_reached(problem: Problem, logits: Tensor) -> Tensor:
    """Return which images' logits do not reach the criterion; bool, (N,).

    Images whose logits are NaN count as done, so that they are proposed and the threat model refuses them.
    """
    return ~(problem.criterion.reached(logits) | ~logits.isfinite().all(1))
