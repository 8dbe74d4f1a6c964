"""The loop of iterative attacks, which finished images leave, and attempts one after another."""

from collections.abc import Callable, Iterable
from typing import Protocol, Self

import torch
from torch import Tensor

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
        """Return which images do not fool the target yet (see `not_fooled`)."""

    def select(self, indices: Tensor) -> Self:
        """Return the state of some of the images."""

    def result(self) -> Tensor:
        """Return the images to propose, of those that have not left the batch."""


def iterate(start: IterativeAttack, steps: int, *, early_stop: bool, cost: int = 1) -> Proposal:
    """Take the steps, all images at once.

    Args:
        start: the attack before its first step.
        steps: the most steps to take.
        early_stop: drop images from the batch as soon as they reach the criterion as stored. To know
            that costs a forward pass a step and a wait for the device; without it the host never waits.
        cost: gradient evaluations of one step.
    """
    if early_stop:
        return _iterate_with_early_stop(start, steps, cost)
    for step in range(steps):
        start.step(step)
    return Proposal(images=start.result(), grad_evals=grad_evals_of(start.problem, steps * cost))


def _iterate_with_early_stop(state: IterativeAttack, steps: int, cost: int) -> Proposal:
    images, grad_evals = state.images.clone(), grad_evals_of(state.problem, 0)
    remaining = torch.arange(len(images), device=images.device)
    for step in range(steps):
        state.step(step)
        grad_evals[remaining] += cost
        stay = state.not_fooled()
        if len(stay) < len(remaining):
            images[remaining] = state.images
            state = state.select(stay)
            remaining = remaining[stay]
        if not len(remaining):
            return Proposal(images=images, grad_evals=grad_evals)
    images[remaining] = state.result()
    return Proposal(images=images, grad_evals=grad_evals)


def run_in_sequence(problem: Problem, attempts: Iterable[Attempt]) -> Proposal:
    """Run one attempt after another, each on the images that all before it did not fool.

    An image that withstands every attempt keeps its first proposal.
    """
    images, grad_evals = problem.clean, grad_evals_of(problem, 0)
    remaining = torch.arange(len(images), device=images.device)
    for number, attempt in enumerate(attempts):
        part = problem.select(remaining)
        proposal = attempt(part, remaining)
        grad_evals[remaining] += proposal.grad_evals
        stay = not_fooled(part, proposal.images)
        if number == 0:
            images = proposal.images.clone()
        fooled = torch.ones_like(remaining, dtype=torch.bool).index_fill_(0, stay, False)
        images[remaining[fooled]] = proposal.images[fooled]
        remaining = remaining[stay]
        if not len(remaining):
            break
    return Proposal(images=images, grad_evals=grad_evals)


@torch.no_grad()
def not_fooled(problem: Problem, images: Tensor) -> Tensor:
    """Return which images, as they would be stored, withstand the attack so far; int64 indices."""
    return not_reached(problem, problem.model(problem.stored(images)))


def not_reached(problem: Problem, logits: Tensor) -> Tensor:
    """Return which images' logits do not reach the criterion; int64 indices.

    Images whose logits are NaN count as done, so that they are proposed and the threat model refuses them.
    """
    done = problem.criterion.reached(logits) | ~logits.isfinite().all(1)
    return (~done).nonzero().flatten()
