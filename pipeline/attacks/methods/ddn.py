"""DDN, decoupled direction and norm: the norm shrinks after each success and grows after each failure."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from impure.pipeline.attacks.engine.attack_spec import AttackSpec, Params
from impure.pipeline.attacks.engine.best_iterates import BestIterates
from impure.pipeline.attacks.engine.gradients import loss_and_gradient, per_image
from impure.pipeline.attacks.engine.parameter_checks import at_least, positive, within
from impure.pipeline.attacks.engine.threat_model import Problem, Proposal, grad_evals_of

LAST_STEP = 0.01
"""The length of the last step; the first has length 1 (section 4.1 of the paper)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DDN:
    """DDN (L2): steps along the gradient, brought back to a norm that follows success and failure.

    Paper: "Decoupling Direction and Norm for Efficient Gradient-Based L2 Adversarial Attacks and Defenses",
    Rony et al. 2019, arXiv:1811.09600, Algorithm 1. The target is shown each iterate with 256 levels, as
    there. Two things are otherwise: steps are summed unrounded, so that those which rounding erases add up,
    and once an image has come back across the boundary γ anneals, so that its norm settles there.

    Attributes:
        steps: gradient evaluations (preset `paper`: 100).
        gamma: γ, by which fraction the norm shrinks or grows at each step (0.05).
        last_gamma: to what γ anneals (0.001; preset `library`, as in the paper: 0.05, so it is constant).
        init_norm: the first norm on pixels in [0, 1] (1).

    Shapes:
        Images (N, C, H, W) in [0, 1], labels (N,); proposes images (N, C, H, W).

    Example:
        >>> adversarial = attack(model, images, labels, "ddn", steps=300)
    """

    steps: int
    gamma: float
    last_gamma: float
    init_norm: float

    def __post_init__(self) -> None:
        at_least("steps", self.steps, 1)
        within("gamma", self.gamma, 0, 1)
        within("last_gamma", self.last_gamma, 0, 1)
        positive("init_norm", self.init_norm)

    def propose(self, problem: Problem) -> Proposal:
        """Take the steps, and propose the nearest stored success on the way."""
        best = BestIterates.empty(problem)
        images, norm = problem.clean, torch.full_like(best.distance, self.init_norm)
        across = torch.zeros_like(best.broken)
        farthest = l2_norm(torch.maximum(problem.clean, 1 - problem.clean))
        for step in range(self.steps):
            seen, progress = problem.stored(images), step / self.steps
            _, logits, gradient = loss_and_gradient(
                problem.model, seen, problem.criterion.cross_entropy, problem.eot
            )
            success = best.look(problem, seen, logits, l2_norm)
            across |= best.distance.isfinite() & ~success
            settling = torch.full_like(norm, annealed(self.gamma, self.last_gamma, progress))
            gamma = settling.where(across, self.gamma)
            norm = torch.where(success, norm * (1 - gamma), norm * (1 + gamma))
            norm = torch.minimum(norm, farthest)
            shift = images - problem.clean + unit(gradient) * annealed(1, LAST_STEP, progress)
            images = problem.project(problem.clean + unit(shift) * per_image(norm))
        best.look_at_last(problem, images, l2_norm)
        return Proposal(images=best.proposal(), grad_evals=grad_evals_of(problem, self.steps))


def l2_norm(tensor: Tensor) -> Tensor:
    """Return the L2 norm of each image's part, (N,)."""
    norm: Tensor = torch.linalg.vector_norm(tensor, dim=(1, 2, 3))
    return norm


def unit(direction: Tensor) -> Tensor:
    """Scale each image's part to L2 norm 1; zero stays zero, NaN stays NaN."""
    return direction / per_image(l2_norm(direction).clamp_min(torch.finfo(direction.dtype).tiny))


def annealed(first: float, last: float, progress: float) -> float:
    """Go from the first value to the last along half a cosine; `progress` from 0 to 1."""
    return last + (first - last) * (1 + math.cos(math.pi * progress)) / 2


_PARAMS: Params = {"steps": 100, "gamma": 0.05, "last_gamma": 0.001, "init_norm": 1.0}

DDN_SPEC = AttackSpec(
    kind=DDN,
    paper=_PARAMS,
    library=_PARAMS | {"last_gamma": 0.05},
    summary="smallest L2 perturbation by a norm that follows success and failure",
    source="Rony 2019, arXiv:1811.09600",
)
