"""Auto-PGD: signed steps with momentum whose size halves when progress stops (Croce & Hein 2020)."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from impure.manifests.errors import InputError
from impure.pipeline.attacks.base import LEVELS, Problem, Proposal, loss_and_gradient, per_image, step_scale
from impure.pipeline.attacks.checks import at_least, within

MOMENTUM = 0.75
"""α of Algorithm 1: the weight of the fresh step against the previous move."""


@dataclass(slots=True, kw_only=True)
class Progress:
    """The running state of Algorithm 1 for N images; `loss` is f, `best_*` belong to x_max."""

    images: Tensor
    previous: Tensor
    gradient: Tensor
    loss: Tensor
    best_images: Tensor
    best_gradient: Tensor
    best_loss: Tensor
    kept: Tensor
    kept_loss: Tensor
    fooled: Tensor
    step_size: Tensor

    def record(self, losses: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Note the new iterate: the best by loss (x_max), and the one to hand back.

        Handed back is the best by loss among the misclassified, if there is one: with cross-entropy a higher
        loss may still be classified correctly.
        """
        # `~(a <= b)`: a NaN counts as better, so that it surfaces in the proposal instead of hiding.
        better = ~(losses <= self.best_loss)
        fooled = logits.argmax(1) != labels
        same = fooled == self.fooled
        keep = torch.where(same, ~(losses <= self.kept_loss), fooled | losses.isnan())
        _overwrite(better, (self.best_images, self.images), (self.best_gradient, self.gradient))
        _overwrite(keep, (self.kept, self.images))
        self.best_loss = torch.where(better, losses, self.best_loss)
        self.kept_loss = torch.where(keep, losses, self.kept_loss)
        self.fooled |= fooled

    def halve(self, stuck: Tensor) -> None:
        """Halve the step of stuck images and put them back at x_max (Algorithm 1)."""
        self.step_size = torch.where(stuck, self.step_size / 2, self.step_size)
        _overwrite(stuck, (self.images, self.best_images))
        self.gradient = torch.where(per_image(stuck), self.best_gradient, self.gradient)


def _overwrite(where: Tensor, *pairs: tuple[Tensor, Tensor]) -> None:
    """Copy source to target in place where the mask (N,) is set; no wait for the device."""
    mask = per_image(where)
    for target, source in pairs:
        torch.where(mask, source, target, out=target)


@dataclass(frozen=True, slots=True, kw_only=True)
class APGD(ABC):
    """Auto-PGD for L∞ (Croce & Hein 2020, Algorithm 1); the losses are its subclasses.

    Checkpoints and the oscillation count follow the authors' published program, against which results are
    compared: whole numbers of steps, and the first loss is compared with 0 instead of the start's loss.
    """

    steps: int
    rho: float
    n_restarts: int

    def __post_init__(self) -> None:
        at_least("steps", self.steps, 1)
        at_least("n_restarts", self.n_restarts, 1)
        within("rho", self.rho, 0, 1)

    @abstractmethod
    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss to climb, one value per image."""

    def propose(self, problem: Problem) -> Proposal:
        """Run, then restart on the images that are still classified correctly."""
        images = problem.clean.clone()
        grad_evals = torch.zeros_like(problem.labels)
        left = torch.arange(len(images), device=images.device)
        for restart in range(self.n_restarts):
            progress = self.run(problem.take(left).restarted(restart))
            images[left] = progress.kept
            grad_evals[left] += self.steps + 1
            left = left[~progress.fooled]
            if not len(left):
                break
        return Proposal(images=images, grad_evals=grad_evals)

    def run(self, problem: Problem) -> Progress:
        """Run Algorithm 1 once from a random start; returns the final state."""
        lower, upper = problem.lowest / LEVELS, problem.highest / LEVELS
        progress = self._start(problem)
        checkpoints = _checkpoints(self.steps)
        rises, previous_loss = torch.zeros_like(progress.loss), torch.zeros_like(progress.loss)
        best_at_check, reduced = progress.best_loss, torch.ones_like(progress.fooled)
        for step in range(self.steps):
            _move(progress, lower, upper, 1.0 if step == 0 else MOMENTUM)
            self._evaluate(problem, progress)
            rises += progress.loss > previous_loss
            previous_loss = progress.loss
            if interval := checkpoints.get(step):
                stalled = ~reduced & (best_at_check >= progress.best_loss)
                reduced = (rises <= self.rho * interval) | stalled
                best_at_check = progress.best_loss
                progress.halve(reduced)
                rises = torch.zeros_like(rises)
        return progress

    def _start(self, problem: Problem) -> Progress:
        noise = problem.draws.uniform("start", problem.clean.shape[1:]).mul_(2).sub_(1)
        noise /= noise.abs().amax(dim=(1, 2, 3), keepdim=True)
        images = problem.project(noise.to(problem.clean).mul_(problem.eps).add_(problem.clean))
        losses, logits, gradient = self._differentiate(problem, images)
        return Progress(
            images=images,
            previous=images.clone(),
            gradient=gradient,
            loss=losses,
            best_images=images.clone(),
            best_gradient=gradient.clone(),
            best_loss=losses,
            kept=images.clone(),
            kept_loss=losses,
            fooled=logits.argmax(1) != problem.labels,
            step_size=torch.full_like(losses, 2 * problem.eps),
        )

    def _evaluate(self, problem: Problem, progress: Progress) -> None:
        progress.loss, logits, progress.gradient = self._differentiate(problem, progress.images)
        progress.record(progress.loss, logits, problem.labels)

    def _differentiate(self, problem: Problem, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return loss_and_gradient(problem.model, images, lambda logits: self.losses(logits, problem.labels))


def _move(progress: Progress, lower: Tensor, upper: Tensor, fresh: float) -> None:
    """Step: z = P(x + η·sign(g)); x ← P(x + α(z − x) + (1 − α)(x − x_prev)) (Algorithm 1)."""
    size = step_scale(progress.gradient, per_image(progress.step_size))
    target = torch.addcmul(progress.images, progress.gradient.sign(), size)
    torch.clamp(target, lower, upper, out=target)
    last_move = progress.images - progress.previous
    progress.previous = progress.images
    target.sub_(progress.images).mul_(fresh).add_(progress.images).add_(last_move, alpha=1 - fresh)
    progress.images = torch.clamp(target, lower, upper, out=target)


def _checkpoints(steps: int) -> dict[int, int]:
    """Return step → steps since the checkpoint before (section 3.2 with p₁ = 0.22, in whole steps)."""
    interval, shortest, shrinkage = (max(int(share * steps), 1) for share in (0.22, 0.06, 0.03))
    found, last = {}, -1
    while last + interval < steps:
        last += interval
        found[last] = interval
        interval = max(interval - shrinkage, shortest)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class APGDCE(APGD):
    """Auto-PGD on the cross-entropy."""

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy, (N,)."""
        return cross_entropy(logits, labels, reduction="none")


@dataclass(frozen=True, slots=True, kw_only=True)
class APGDDLR(APGD):
    """Auto-PGD on the difference of logits ratio."""

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return DLR = −(z_y − max_{i≠y} z_i) / (z_π1 − z_π3), (N,) (Croce & Hein 2020, Eq. 5).

        Scale-free; its gradient vanishes where the true label ranks third.

        Raises:
            InputError: the target has fewer than three classes.
        """
        if logits.shape[1] < 3:
            raise InputError(f"apgd-dlr needs a target of 3 classes or more; this one has {logits.shape[1]}")
        values, classes = logits.topk(3, dim=1)
        true = logits.gather(1, labels[:, None]).squeeze(1)
        rival = torch.where(classes[:, 0] == labels, values[:, 1], values[:, 0])
        return (rival - true) / (values[:, 0] - values[:, 2] + 1e-12)
