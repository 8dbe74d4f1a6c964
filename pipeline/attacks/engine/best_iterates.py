"""The best iterates of an attack that looks for the smallest perturbation."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from impure.pipeline.attacks.engine.gradients import per_image
from impure.pipeline.attacks.engine.threat_model import Problem

Norm = Callable[[Tensor], Tensor]
"""The size of each image's part, (N,), from (N, C, H, W)."""


@dataclass(slots=True, kw_only=True)
class BestIterates:
    """The iterate to return, per image: the nearest success, else the one with the largest margin.

    Attributes:
        images: the best iterates, (N, C, H, W).
        distance: that of the nearest success as its attack measures it; infinite where there is none, (N,).
        margin: margin of the best iterate, (N,).
        broken: whether the target ever gave NaN logits, (N,).
    """

    images: Tensor
    distance: Tensor
    margin: Tensor
    broken: Tensor

    @classmethod
    def empty(cls, problem: Problem) -> "BestIterates":
        """Start with NaN images, which the threat model refuses, in place of any fallback."""
        distance = torch.full_like(problem.clean[:, 0, 0, 0], torch.inf)
        return cls(
            images=torch.full_like(problem.clean, torch.nan),
            distance=distance,
            margin=-distance,
            broken=torch.zeros_like(problem.labels, dtype=torch.bool),
        )

    def record(self, images: Tensor, distance: Tensor, margin: Tensor, success: Tensor) -> None:
        """Compare an iterate with the best so far."""
        nearer = success & (distance < self.distance)
        closer_to_success = self.distance.isinf() & ~success & (margin > self.margin)
        better = nearer | closer_to_success
        torch.where(per_image(better), images, self.images, out=self.images)
        self.distance = torch.where(nearer, distance, self.distance)
        self.margin = torch.where(better, margin, self.margin)
        self.broken |= margin.isnan()

    def proposal(self) -> Tensor:
        """Return the images; NaN where the target ever gave NaN logits."""
        return self.images.masked_fill(per_image(self.broken), torch.nan)

    def look(self, problem: Problem, seen: Tensor, logits: Tensor, norm: Norm) -> Tensor:
        """Compare images that the target was shown with the best so far; returns who succeeds, bool, (N,)."""
        margin = problem.criterion.margin(logits)
        success = margin > 0
        self.record(seen, norm(seen - problem.clean), margin, success)
        return success

    @torch.no_grad()
    def look_at_last(self, problem: Problem, images: Tensor, norm: Norm) -> None:
        """Look at where the last step went, as stored: it costs no gradient."""
        seen = problem.stored(images)
        self.look(problem, seen, problem.logits(seen), norm)
