"""FAB: steps to the linearised boundary that lean towards the clean image (Croce & Hein 2020)."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from impure.pipeline.attacks.engine.attack_spec import AttackSpec
from impure.pipeline.attacks.engine.criteria import logit_of, top_other_classes
from impure.pipeline.attacks.engine.gradients import loss_and_gradient, per_image
from impure.pipeline.attacks.engine.iterate import run_in_sequence
from impure.pipeline.attacks.engine.parameter_checks import at_least, within
from impure.pipeline.attacks.engine.threat_model import LEVELS, Problem, Proposal, grad_evals_of

SHORTEST = 1e-8
"""The authors' program takes shorter ways to the boundary for this long; two of no length weigh the same."""

SLACK = 1e-3
"""Perturbations less than this above a whole number of 8-bit levels are that number: floats are not exact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FABT:
    """Fast adaptive boundary attack for L∞, towards one likely class after another.

    Paper: "Minimally distorted Adversarial Examples with a Fast Adaptive Boundary Attack", Croce & Hein 2020,
    arXiv:1907.02044, Algorithm 1.

    The targeted form of AutoAttack's program (arXiv:2003.01690, section 5): each run starts at the clean
    image, and the paper's final line search is left out. Nothing is drawn. Iterates are not held to ±ε: the
    nearest adversarial is approached from outside the budget as well as from inside.

    An iterate counts as adversarial by its bytes, with the perturbation rounded away from the clean image.
    Nearly all pixels of a nearest adversarial are equally far from the clean ones, so that rounding to the
    nearest level would pull them all back over the boundary at once; rounding away keeps an iterate within
    any whole budget that held it before.

    Attributes:
        steps: iterations towards each class; a gradient and a forward pass each (preset `paper`: 100).
        target_classes: how many classes to steer to in turn, those with the largest logits when clean (9).
        alpha_max: the most weight that a step gives to the clean image's own projection (0.1).
        eta: η, by which steps overshoot the linearised boundary (1.05).
        beta: β, what is left of the perturbation after stepping back from an adversarial iterate (0.9).

    Shapes:
        Images (N, C, H, W) in [0, 1], labels (N,); proposes images (N, C, H, W).

    Example:
        >>> adversarial = attack(model, images, labels, "fab-t", eps=8, steps=20)
    """

    steps: int
    target_classes: int
    alpha_max: float
    eta: float
    beta: float

    def __post_init__(self) -> None:
        at_least("steps", self.steps, 1)
        at_least("target_classes", self.target_classes, 1)
        within("alpha_max", self.alpha_max, 0, 1)
        at_least("eta", self.eta, 1)
        within("beta", self.beta, 0, 1)

    def propose(self, problem: Problem) -> Proposal:
        """Run once for each class, on the images that are not fooled yet within the budget."""
        with torch.no_grad():
            classes = top_other_classes(problem.logits(problem.clean), problem.labels, self.target_classes)
        return run_in_sequence(
            problem, [partial(self._towards, target_classes) for target_classes in classes.unbind(1)]
        )

    def _towards(self, target_classes: Tensor, problem: Problem, indices: Tensor) -> Proposal:
        return self.minimise_distance(problem, target_classes[indices])

    def minimise_distance(self, problem: Problem, target_classes: Tensor) -> Proposal:
        """Run Algorithm 1 once, with a single boundary for each image.

        Args:
            problem: clean images and the criterion that tells which iterates are adversarial.
            target_classes: the class whose boundary with the true one is sought, int64, (N,).

        Returns:
            The adversarial iterates nearest to the clean images in L∞, as bytes would hold them; where there
            was none, the last iterates.
        """
        images = nearest = problem.clean
        shortest = torch.full_like(images[:, 0, 0, 0], torch.inf)
        for _ in range(self.steps):
            images = self._biased_step(problem, target_classes, images)
            stored, reached = _evaluate_stored(problem, images)
            distance = _linf(stored - problem.clean)
            # A NaN is recorded as if it were nearest, and stays, for the threat model to refuse.
            nearer = (reached & (distance < shortest)) | distance.isnan()
            nearest = torch.where(per_image(nearer), stored, nearest)
            shortest = torch.where(nearer, distance, shortest)
            images = torch.where(per_image(reached), torch.lerp(problem.clean, images, self.beta), images)
        images = torch.where(per_image(shortest.isinf()), images, nearest)
        return Proposal(images=images, grad_evals=grad_evals_of(problem, self.steps))

    def _biased_step(self, problem: Problem, target_classes: Tensor, images: Tensor) -> Tensor:
        """Set x ← clip((1 − α)(x + ηδ) + α(x_clean + ηδ_clean)) with the δ that lead to the boundary.

        α is |δ| / (|δ| + |δ_clean|), at most α_max (Algorithm 1, the biased step with extrapolation).
        """
        gap, _, slope = loss_and_gradient(
            problem.model,
            images,
            lambda logits: logit_of(logits, target_classes) - logit_of(logits, problem.labels),
            problem.eot,
        )
        gap_clean = gap + (slope * (problem.clean - images)).flatten(1).sum(1)
        step = step_to_hyperplane(images, slope, gap)
        step_clean = step_to_hyperplane(problem.clean, slope, gap_clean)
        length = _linf(step).clamp(min=SHORTEST)
        length_clean = _linf(step_clean).clamp(min=SHORTEST)
        alpha = (length / (length + length_clean)).clamp(max=self.alpha_max)
        from_iterate = images + self.eta * step
        from_clean = problem.clean + self.eta * step_clean
        return torch.lerp(from_iterate, from_clean, per_image(alpha)).clamp_(0, 1)


def step_to_hyperplane(points: Tensor, slope: Tensor, value: Tensor) -> Tensor:
    """Return the smallest L∞ steps to where a linear function vanishes, inside the box (section 3.1).

    All pixels move by λ, each until it meets the box: λ solves |f| = Σ_i |w_i|·min(λ, room_i). The right-hand
    side is concave and piecewise linear, thus the least of its pieces S_k + λ·T_k, in which the k pixels with
    the least room are at the box; λ is then the largest of (|f| − S_k) / T_k. Where the plane misses the box,
    this λ exceeds every room and the step ends in the corner nearest to the plane.

    Args:
        points: in [0, 1], shape (N, C, H, W).
        slope: w, shape of `points`. Pixels with slope 0 do not move.
        value: f, the function's values at the points, (N,).

    Returns:
        Steps δ, shape of `points`; NaN for an image with a NaN among its values.
    """
    direction = -slope.sign() * per_image(value.sign())
    room = torch.where(direction > 0, 1 - points, points) * direction.abs()
    # Stable: the order of ties decides how sums round, and must not depend on the batch.
    rooms, order = room.flatten(1).sort(dim=1, stable=True)
    weights = slope.abs().flatten(1).gather(1, order)
    stopped = rooms * weights
    stopped = stopped.cumsum(1) - stopped
    moving = weights.flip(1).cumsum(1).flip(1).clamp_(min=torch.finfo(weights.dtype).tiny)
    size = ((value.abs()[:, None] - stopped) / moving).amax(1)
    return direction * torch.minimum(per_image(size), room)


@torch.no_grad()
def _evaluate_stored(problem: Problem, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the images as bytes would hold them and which of those reach the criterion, (N,).

    Images whose logits are not finite become NaN.
    """
    stored = _rounded_away(problem.clean, images) if problem.quantised else images
    logits = problem.logits(stored)
    return stored + per_image(logits.sum(1) * 0), problem.criterion.reached(logits)


def _rounded_away(clean: Tensor, images: Tensor) -> Tensor:
    """Return images in whole 8-bit levels, each pixel rounded away from the clean one."""
    levels = (images - clean) * LEVELS
    outward = levels.sign() * (levels.abs() - SLACK).ceil()
    return (clean * LEVELS + outward).round_().div_(LEVELS)


def _linf(steps: Tensor) -> Tensor:
    """Return each image's largest magnitude, (N,)."""
    return steps.abs().flatten(1).amax(1)


FAB_T_SPEC = AttackSpec(
    kind=FABT,
    paper={"steps": 100, "target_classes": 9, "alpha_max": 0.1, "eta": 1.05, "beta": 0.9},
    library={"steps": 10, "target_classes": 9, "alpha_max": 0.1, "eta": 1.05, "beta": 0.9},
    summary="smallest L∞ perturbation across the boundaries to the nine likeliest classes",
    source="Croce & Hein 2020, arXiv:1907.02044",
    targeted=False,
)
