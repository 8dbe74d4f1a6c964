"""Carlini & Wagner's L2 attack, searching for the smallest success among images as they would be stored."""

from dataclasses import dataclass

import torch
from torch import Tensor

from impure.pipeline.attacks.engine.gradients import loss_and_gradient, per_image
from impure.pipeline.attacks.engine.parameter_checks import at_least, positive
from impure.pipeline.attacks.engine.threat_model import Problem, Proposal, grad_evals_of

REACH = 0.55
"""Half the width of the tanh's range around mid-grey, in place of 0.5: pure black and white then lie inside,
where its slope is not zero, so that they can move. Storage clips what leaves [0, 1]."""


@dataclass(slots=True, kw_only=True)
class BestIterates:
    """The iterate to hand back, per image: the nearest success, else the one with the largest margin."""

    images: Tensor
    distance: Tensor
    margin: Tensor
    broken: Tensor

    @classmethod
    def nothing_yet(cls, problem: Problem) -> "BestIterates":
        """Start with NaN images, which the base refuses, in place of any fallback."""
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
        """Return the images; NaN where the target ever answered NaN."""
        return self.images.masked_fill(per_image(self.broken), torch.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class CW:
    """Carlini & Wagner 2017, section 5 (L2, f₆): minimise ‖δ‖² + c·max(κ − margin, 0) for a searched c.

    The forward pass sees the image as stored (projected to ε, rounded); the gradient passes straight through
    both, since the perturbations are so small that rounding afterwards would erase them.
    """

    steps: int
    search_steps: int
    lr: float
    c0: float
    kappa: float

    def __post_init__(self) -> None:
        at_least("steps", self.steps, 1)
        at_least("search_steps", self.search_steps, 1)
        positive("lr", self.lr)
        positive("c0", self.c0)
        at_least("kappa", self.kappa, 0)

    def propose(self, problem: Problem) -> Proposal:
        """Search each image's c on its own: ten times larger until it succeeds, then bisect."""
        best = BestIterates.nothing_yet(problem)
        c = torch.full_like(best.distance, self.c0)
        lowest, highest = torch.zeros_like(c), torch.full_like(c, torch.inf)
        for _ in range(self.search_steps):
            found = self._descend(problem, c, best)
            highest = torch.where(found, c, highest)
            lowest = torch.where(found, lowest, c)
            c = torch.where(highest.isinf(), c * 10, (lowest + highest) / 2)
        images = best.proposal()
        return Proposal(images=images, grad_evals=grad_evals_of(problem, self.steps * self.search_steps))

    def _descend(self, problem: Problem, c: Tensor, best: BestIterates) -> Tensor:
        """Run Adam from the clean image with fresh state; returns who succeeded with this c, (N,)."""
        weights = torch.atanh((problem.clean - 0.5) / REACH)
        adam = torch.optim.Adam([weights], lr=self.lr, fused=True)
        found = torch.zeros_like(best.broken)
        for _ in range(self.steps):
            slope = weights.tanh()
            images = slope.mul(REACH).add_(0.5)
            seen = problem.stored(images)
            shortfall, logits, gradient = loss_and_gradient(
                problem.model,
                seen,
                lambda logits: c * (self.kappa - problem.criterion.margin(logits)).clamp_min(0),
            )
            reached = problem.criterion.margin(logits)
            success = reached > self.kappa
            distance = (seen - problem.clean).square_().sum(dim=(1, 2, 3))
            best.record(images, distance, reached, success)
            found |= success
            pull = (images - problem.clean).mul_(2)
            weights.grad = pull.add_(gradient).mul_(slope.square_().neg_().add_(1).mul_(REACH))
            adam.step()
        return found
