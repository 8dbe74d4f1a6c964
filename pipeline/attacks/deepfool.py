"""DeepFool, batched: repeated steps to the nearest linearised class boundary."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from impure.pipeline.attacks.base import Problem, Proposal, per_image
from impure.pipeline.attacks.checks import at_least
from impure.pipeline.attacks.goals import likeliest_but
from impure.pipeline.attacks.walks import walk

EXTRA = 1e-4
"""Added to each step's length as the authors' program does, so that a tie on a boundary does not stall."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepFool:
    """Moosavi-Dezfooli 2016, Algorithm 2 (L2), until the image as it would be stored is misclassified.

    Attributes:
        steps: the most iterations.
        candidates: how many classes to consider, the true one included: the largest logits when clean.
        overshoot: η, by which the sum of the steps is stretched.
    """

    steps: int
    candidates: int
    overshoot: float

    def __post_init__(self) -> None:
        at_least("steps", self.steps, 1)
        at_least("candidates", self.candidates, 2)
        at_least("overshoot", self.overshoot, 0)

    def propose(self, problem: Problem) -> Proposal:
        """Walk all images at once; those that are misclassified as stored leave the batch."""
        with torch.no_grad():
            rivals = likeliest_but(problem.model(problem.clean), problem.labels, self.candidates - 1)
        start = Crossing(
            problem=problem,
            images=problem.clean,
            total=torch.zeros_like(problem.clean),
            rivals=rivals,
            stretch=1 + self.overshoot,
        )
        return walk(start, self.steps, early_stop=True, cost=rivals.shape[1])


@dataclass(slots=True, kw_only=True)
class Crossing:
    """DeepFool under way.

    Steps are summed unrounded and every linearisation is taken at the stored image, so that steps which
    rounding erases add up until they show.

    Attributes:
        problem: target, images and labels.
        images: the current iterates, unrounded.
        total: the sum of the steps.
        rivals: classes to flee to, int64, (N, R).
        stretch: 1 + η.
    """

    problem: Problem
    images: Tensor
    total: Tensor
    rivals: Tensor
    stretch: float

    def step(self, _: int) -> None:
        """Go to the nearest linearised boundary."""
        self.total += nearest_boundary(self.problem, self.problem.stored(self.images), self.rivals)
        self.images = torch.add(self.problem.clean, self.total, alpha=self.stretch)

    def take(self, indices: Tensor) -> "Crossing":
        """Return the walk of some of the images."""
        rows = {name: getattr(self, name)[indices] for name in ("images", "total", "rivals")}
        return replace(self, problem=self.problem.take(indices), **rows)

    def result(self) -> Tensor:
        """Return the last iterate."""
        return self.images


def nearest_boundary(problem: Problem, seen: Tensor, rivals: Tensor) -> Tensor:
    """Return the shortest step to a linearised boundary: |f_k|·w_k / ‖w_k‖² (Algorithm 2).

    f_k = z_k − z_y and w_k is its gradient: one forward pass, then one vector-Jacobian product per rival on
    the same graph. Products are taken in turn and only the nearest is kept, which works on every network and
    needs the memory of one.

    Args:
        problem: target and labels.
        seen: the images to linearise at, (N, C, H, W).
        rivals: class indices, int64, (N, R).
    """
    nearest = torch.full_like(seen[:, 0, 0, 0], torch.inf)
    step = torch.zeros_like(seen)
    with torch.enable_grad():
        leaf = seen.detach().requires_grad_()
        logits = problem.model(leaf)
        gaps = logits.gather(1, rivals) - logits.gather(1, problem.labels[:, None])
    for index, gap in enumerate(gaps.unbind(1), start=1):
        (slope,) = torch.autograd.grad(gap.sum(), leaf, retain_graph=index < gaps.shape[1])
        norm = slope.square().sum(dim=(1, 2, 3)).sqrt()
        length = gap.detach().abs() / norm + EXTRA
        # A flat class (norm 0) is infinitely far; a NaN wins and stays, for the base to refuse.
        length = torch.where(norm == 0, torch.inf, length)
        nearer = ~(length >= nearest) & ~nearest.isnan()
        nearest = torch.where(nearer, length, nearest)
        torch.where(per_image(nearer), slope * per_image(length / norm), step, out=step)
    return step
