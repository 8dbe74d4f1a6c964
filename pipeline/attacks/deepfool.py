"""DeepFool, batched: repeated steps to the nearest linearised class boundary."""

from dataclasses import dataclass

import torch
from torch import Tensor

from impure.manifests.errors import InputError
from impure.pipeline.attacks.base import Problem, Proposal, per_image
from impure.pipeline.attacks.checks import at_least
from impure.pipeline.attacks.cw import Stored

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
        """Search among stored images."""
        return self.search(problem, Problem.stored)

    def search(self, problem: Problem, stored: Stored) -> Proposal:
        """Walk all images at once; those that are misclassified leave the batch.

        Steps are summed unrounded and every linearisation is taken at the stored image, so that steps which
        rounding erases add up until they show.
        """
        rivals = self._rivals(problem)
        total = torch.zeros_like(problem.clean)
        grad_evals = torch.zeros_like(problem.labels)
        left, part = torch.arange(len(total), device=total.device), problem
        for _ in range(self.steps):
            seen = stored(part, self._stretched(part.clean, total[left]))
            still = self._still_right(part, seen)
            if len(still) < len(left):
                left, part, seen = left[still], part.take(still), seen[still]
            if not len(left):
                break
            total[left] += nearest_boundary(part, seen, rivals[left])
            grad_evals[left] += rivals.shape[1]
        return Proposal(images=self._stretched(problem.clean, total), grad_evals=grad_evals)

    def _stretched(self, clean: Tensor, total: Tensor) -> Tensor:
        return torch.add(clean, total, alpha=1 + self.overshoot)

    @torch.no_grad()
    def _rivals(self, problem: Problem) -> Tensor:
        """Return the classes to flee to, int64, (N, candidates − 1 or what the target has)."""
        logits: Tensor = problem.model(problem.clean)
        if logits.shape[1] < 2:
            raise InputError("deepfool needs a target of 2 classes or more; this one has 1")
        count = min(self.candidates, logits.shape[1]) - 1
        return logits.scatter(1, problem.labels[:, None], -torch.inf).topk(count, dim=1).indices

    @torch.no_grad()
    def _still_right(self, problem: Problem, seen: Tensor) -> Tensor:
        return (problem.model(seen).argmax(1) == problem.labels).nonzero().flatten()


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
