"""Carlini & Wagner's L2 attack, searching for the smallest success among images as they would be stored."""

from dataclasses import dataclass

import torch
from torch import Tensor

from impure.pipeline.attacks.engine.attack_spec import AttackSpec
from impure.pipeline.attacks.engine.best_iterates import BestIterates
from impure.pipeline.attacks.engine.gradients import loss_and_gradient
from impure.pipeline.attacks.engine.parameter_checks import at_least, positive
from impure.pipeline.attacks.engine.threat_model import LEVELS, Problem, Proposal, grad_evals_of

REACH = 0.5 + 0.25 / LEVELS
"""Half the width of the tanh's range around mid-grey: a quarter of a level beyond [0, 1].

Pure black and white then lie inside, where its slope is not zero, so that they can move; a twentieth of a
level leaves a white image standing still. A wider range finds larger perturbations (on EfficientNet-Lite0:
half a level by 1 % in L2, 0.55 for `REACH` by 4 %)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CW:
    """Carlini & Wagner's attack (L2, f₆): minimise ‖δ‖² + c·max(κ − margin, 0) by Adam, with a search over c.

    Paper: "Towards Evaluating the Robustness of Neural Networks", Carlini & Wagner 2017, arXiv:1608.04644,
    section 5.

    The forward pass sees the image as stored (projected to ε, rounded); the gradient passes straight through
    both, since the perturbations are so small that rounding afterwards would erase them.

    Attributes:
        steps: steps of Adam for each c (preset `paper`: 50).
        search_steps: values of c to try (5).
        lr: learning rate of Adam (0.01).
        c0: the first c (0.1).
        kappa: κ, the margin that counts as success (40).

    Shapes:
        Images (N, C, H, W) in [0, 1], labels (N,); proposes images (N, C, H, W).

    Example:
        >>> adversarial = attack(model, images, labels, "cw", kappa=0, steps=100)
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
        best = BestIterates.empty(problem)
        c = torch.full_like(best.distance, self.c0)
        lowest = torch.zeros_like(c)
        highest = torch.full_like(c, torch.inf)
        for _ in range(self.search_steps):
            succeeded = self._descend(problem, c, best)
            highest = torch.where(succeeded, c, highest)
            lowest = torch.where(succeeded, lowest, c)
            c = torch.where(highest.isinf(), c * 10, (lowest + highest) / 2)
        images = best.proposal()
        return Proposal(images=images, grad_evals=grad_evals_of(problem, self.steps * self.search_steps))

    def _descend(self, problem: Problem, c: Tensor, best: BestIterates) -> Tensor:
        """Run Adam from the clean image with fresh state; returns who succeeded with this c, (N,)."""
        weights = torch.atanh((problem.clean - 0.5) / REACH)
        adam = torch.optim.Adam([weights], lr=self.lr, fused=True)
        succeeded = torch.zeros_like(best.broken)
        for _ in range(self.steps):
            slope = weights.tanh()
            images = slope.mul(REACH).add_(0.5)
            seen = problem.stored(images)
            shortfall, logits, gradient = loss_and_gradient(
                problem.model,
                seen,
                lambda logits: c * (self.kappa - problem.criterion.margin(logits)).clamp_min(0),
                problem.eot,
            )
            margin = problem.criterion.margin(logits)
            success = margin > self.kappa
            distance = (seen - problem.clean).square_().sum(dim=(1, 2, 3))
            best.record(images, distance, margin, success)
            succeeded |= success
            pull = (images - problem.clean).mul_(2)
            weights.grad = pull.add_(gradient).mul_(slope.square_().neg_().add_(1).mul_(REACH))
            adam.step()
        return succeeded


CW_SPEC = AttackSpec(
    kind=CW,
    paper={"steps": 50, "search_steps": 5, "lr": 0.01, "c0": 0.1, "kappa": 40.0},
    cleverhans={"steps": 1000, "lr": 0.005, "c0": 0.01, "kappa": 0.0},
    library={"steps": 50, "search_steps": 1, "lr": 0.01, "c0": 1.0, "kappa": 0.0},
    summary="smallest L2 perturbation by Adam, with a search over c",
    source="Carlini & Wagner 2017, arXiv:1608.04644",
)
