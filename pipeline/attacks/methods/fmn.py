"""FMN, the fast minimum-norm attack: steps along the gradient inside a ball whose size is adapted."""

from dataclasses import dataclass

import torch
from torch import Tensor

from impure.pipeline.attacks.engine.attack_spec import AttackSpec, Params
from impure.pipeline.attacks.engine.best_iterates import BestIterates
from impure.pipeline.attacks.engine.gradients import loss_and_gradient, per_image
from impure.pipeline.attacks.engine.parameter_checks import at_least, positive, within
from impure.pipeline.attacks.engine.threat_model import Problem, Proposal, grad_evals_of
from impure.pipeline.attacks.methods.ddn import annealed, l2_norm, unit

LAST = 0.01
"""The last step over the first (section 3 of the paper)."""

LAST_GAMMA = 0.001
"""γ at the end, so that the ball's size comes to rest."""

BEYOND = 1.001
"""How much farther than the linearised boundary the first ball reaches, which the paper does not say: with 1
iterates creep up to a smooth boundary and never cross it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FMN:
    """FMN (L2 or L∞): steps up the margin, projected onto a ball that shrinks or grows to the boundary.

    Paper: "Fast Minimum-norm Adversarial Attacks through Adaptive Norm Constraints", Pintor et al. 2021,
    arXiv:2102.12827, Algorithm 1. The forward pass sees the image as stored; the steps are summed unrounded.

    Attributes:
        steps: gradient evaluations (preset `paper`: 100).
        alpha: the length of the first step on pixels in [0, 1] (1).
        gamma: γ, by which fraction the ball first shrinks or grows at each step (0.05).
        linf: whether the largest change of a pixel is to be small, instead of the L2 norm (False).

    Shapes:
        Images (N, C, H, W) in [0, 1], labels (N,); proposes images (N, C, H, W).

    Example:
        >>> adversarial = attack(model, images, labels, "fmn", eps=16, linf=True)
    """

    steps: int
    alpha: float
    gamma: float
    linf: bool

    def __post_init__(self) -> None:
        at_least("steps", self.steps, 1)
        positive("alpha", self.alpha)
        within("gamma", self.gamma, 0, 1)

    def propose(self, problem: Problem) -> Proposal:
        """Take the steps, and propose the nearest stored success on the way."""
        best = BestIterates.empty(problem)
        images, radius = problem.clean, best.distance
        farthest = self._norm(torch.maximum(problem.clean, 1 - problem.clean))
        for step in range(self.steps):
            seen = problem.stored(images)
            margin, logits, gradient = loss_and_gradient(
                problem.model, seen, problem.criterion.margin, problem.eot
            )
            success = best.look(problem, seen, logits, self._norm)
            progress = step / self.steps
            gamma = annealed(self.gamma, LAST_GAMMA, progress)
            shift = images - problem.clean
            to_boundary = (self._norm(shift) + margin.abs() / self._dual_norm(gradient)) * BEYOND
            grown = torch.where(best.distance.isinf(), to_boundary, radius * (1 + gamma))
            shrunk = torch.minimum(radius * (1 - gamma), best.distance)
            radius = torch.minimum(torch.where(success, shrunk, grown), farthest)
            shift += unit(gradient) * annealed(self.alpha, self.alpha * LAST, progress)
            images = problem.project(problem.clean + self._into_ball(shift, per_image(radius)))
        best.look_at_last(problem, images, self._norm)
        return Proposal(images=best.proposal(), grad_evals=grad_evals_of(problem, self.steps))

    def _norm(self, shift: Tensor) -> Tensor:
        return shift.abs().amax(dim=(1, 2, 3)) if self.linf else l2_norm(shift)

    def _dual_norm(self, gradient: Tensor) -> Tensor:
        """Return the norm by which the margin grows along the shortest step; never 0."""
        norm = gradient.abs().sum(dim=(1, 2, 3)) if self.linf else l2_norm(gradient)
        return norm.clamp_min(torch.finfo(norm.dtype).tiny)

    def _into_ball(self, shift: Tensor, radius: Tensor) -> Tensor:
        if self.linf:
            return torch.clamp(shift, -radius, radius)
        return torch.where(per_image(l2_norm(shift)) > radius, unit(shift) * radius, shift)


_PARAMS: Params = {"steps": 100, "alpha": 1.0, "gamma": 0.05, "linf": False}

FMN_SPEC = AttackSpec(
    kind=FMN,
    paper=_PARAMS,
    library=_PARAMS,
    summary="smallest L2 or L∞ perturbation by steps inside a ball that is adapted",
    source="Pintor 2021, arXiv:2102.12827",
)
