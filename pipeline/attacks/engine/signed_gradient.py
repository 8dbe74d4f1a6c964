"""Steps along the sign of a gradient: what FGSM, PGD, MI-FGSM, DI²-FGSM and M-DI²-FGSM share."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from impure.pipeline.attacks.engine.batch_rows import on_device
from impure.pipeline.attacks.engine.criteria import Loss, cross_entropy_loss
from impure.pipeline.attacks.engine.gradients import Model, loss_and_gradient, step_scale
from impure.pipeline.attacks.engine.input_diversity import InputDiversity
from impure.pipeline.attacks.engine.iterate import iterate, not_fooled
from impure.pipeline.attacks.engine.parameter_checks import at_least, positive
from impure.pipeline.attacks.engine.threat_model import LEVELS, Problem, Proposal


@dataclass(slots=True, kw_only=True)
class SignedGradient:
    """The state of an attack by signed steps up a loss of the criterion, inside the budget.

    x ← clip(x + α·sign(g)), g ← μ·g + ∇J/mean|∇J| (Dong 2018, Eqs. 6 and 7; the mean instead of the sum of
    magnitudes scales every g alike and leaves its sign).

    Attributes:
        problem: target, images and budget.
        images: the current iterates; overwritten.
        alpha: the step size on pixels in [0, 1].
        annealed_over: the number of steps over which the size falls linearly to zero; 0 keeps it.
        loss: what is maximised.
        decay: the momentum factor μ; 0 steps along the bare gradient.
        momentum: g, or None without momentum.
        diversity: what the target is shown instead of the iterate, or None.
        clean_gradient: whether the first gradient is the clean image's, wherever the iterates start.
    """

    problem: Problem
    images: Tensor
    alpha: float
    annealed_over: int = 0
    loss: Loss = cross_entropy_loss
    decay: float = 0.0
    momentum: Tensor | None = None
    diversity: InputDiversity | None = None
    clean_gradient: bool = False

    def step(self, step: int) -> None:
        """Step along the sign of the gradient, or of the momentum."""
        shown = self.problem.model if self.diversity is None else self._diverse(self.diversity, step)
        point = self.problem.clean if self.clean_gradient and step == 0 else self.images
        loss = partial(self.loss, self.problem.criterion)
        direction = loss_and_gradient(shown, point, loss, self.problem.eot)[2]
        if self.decay:
            direction = normalised(direction)
            if self.momentum is not None:
                direction = direction.add_(self.momentum, alpha=self.decay)
            self.momentum = direction
        self.images.addcmul_(direction.sign(), step_scale(direction, self._size(step)))
        torch.clamp(self.images, self.problem.lower, self.problem.upper, out=self.images)

    def _size(self, step: int) -> float:
        """The size of a step on pixels in [0, 1]."""
        return self.alpha * (1 - step / self.annealed_over) if self.annealed_over else self.alpha

    def _diverse(self, diversity: InputDiversity, step: int) -> Model:
        return lambda images: self.problem.model(diversity.view(step, images))

    def select(self, rows: Sequence[int]) -> "SignedGradient":
        """Return the state of some of the images."""
        indices = on_device(rows, self.images.device)
        return replace(
            self,
            problem=self.problem.select(rows),
            images=self.images[indices],
            momentum=None if self.momentum is None else self.momentum[indices],
            diversity=None if self.diversity is None else self.diversity.select(rows),
        )

    def not_fooled(self) -> Tensor:
        """See `IterativeAttack`."""
        return not_fooled(self.problem, self.images)

    def result(self) -> Tensor:
        """Return the last iterate."""
        return self.images


def normalised(gradient: Tensor) -> Tensor:
    """Divide each image's gradient by its mean magnitude; a zero gradient stays zero instead of NaN."""
    scale = gradient.abs().mean(dim=(1, 2, 3), keepdim=True)
    return gradient / scale.clamp_min(torch.finfo(gradient.dtype).tiny)


def starting_point(problem: Problem, *, random: bool) -> Tensor:
    """Return a new tensor: the clean images, or points drawn uniformly from the budget (Madry 2018)."""
    if not random:
        return problem.clean.clone()
    noise = problem.rng.uniform("start", problem.clean.shape[1:]).to(problem.clean, non_blocking=True)
    return problem.project(noise.mul_(2).sub_(1).mul_(problem.eps).add_(problem.clean))


@dataclass(frozen=True, slots=True, kw_only=True)
class IteratedSignedGradient:
    """The parameters and the loop that PGD, MI-FGSM, DI²-FGSM and M-DI²-FGSM share.

    Attributes:
        steps: gradient evaluations.
        alpha_255: step size in units of 1/255.
        random_start: whether to start at a random point of the budget, else at the clean image.
        clean_gradient: whether the first gradient is the clean image's all the same.
        early_stop: whether images that are fooled as stored leave the batch.
    """

    steps: int
    alpha_255: float
    random_start: bool
    clean_gradient: bool
    early_stop: bool

    def __post_init__(self) -> None:
        at_least("steps", self.steps, 1)
        positive("alpha_255", self.alpha_255)

    def maximise(
        self, problem: Problem, decay: float = 0.0, diversity: InputDiversity | None = None
    ) -> Proposal:
        """Maximise the cross-entropy from the starting point (see `SignedGradient`)."""
        state = SignedGradient(
            problem=problem,
            images=starting_point(problem, random=self.random_start),
            alpha=self.alpha_255 / LEVELS,
            decay=decay,
            diversity=diversity,
            clean_gradient=self.clean_gradient,
        )
        return iterate(state, self.steps, early_stop=self.early_stop)
