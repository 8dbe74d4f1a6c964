"""The threat model, enforced outside the attacks: an attack only ever proposes float images.

`finalize` projects a proposal to ±ε and [0, 1], rounds it to 8 bits (never truncates) and projects again in
integers, so that |adversarial − clean| ≤ ε holds pixel by pixel on the bytes that are stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from impure.pipeline.attacks.engine.batch_rows import on_device
from impure.pipeline.attacks.engine.criteria import Criterion, Targeted, Untargeted
from impure.pipeline.attacks.engine.gradients import Model, mean_logits
from impure.pipeline.attacks.engine.rng import KeyedRng

LEVELS = 255


class AttackError(RuntimeError):
    """An attack went wrong on an image that the message names (for instance a NaN from the target)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What an attack is given: a target, clean images, their labels and the budget.

    Attributes:
        model: the target; its parameters are frozen and it is in eval mode.
        clean: images in [0, 1], shape (N, C, H, W), in the dtype that the target computes in.
        criterion: what the attack wants the target to predict; holds the true classes.
        eps: the L∞ budget on pixels in [0, 1].
        lowest: the smallest allowed pixel value in units of 1/255, shape of `clean`.
        highest: the largest allowed pixel value in units of 1/255, shape of `clean`.
        lower, upper: the same bounds on pixels in [0, 1].
        rng: the random streams of these images.
        batched_gradients: whether several gradients of one pass may be taken in one batched product.
        eot: how often a random target is asked for each gradient and each look at logits, whose mean counts.
        quantised: whether attacks evaluate images as they would be stored, in 8 bits; off only to compare
            with libraries, which do not.
    """

    model: Model
    clean: Tensor
    criterion: Criterion
    eps: float
    lowest: Tensor
    highest: Tensor
    lower: Tensor
    upper: Tensor
    rng: KeyedRng
    eot: int = 1
    quantised: bool = True
    batched_gradients: bool = True

    @property
    def labels(self) -> Tensor:
        """True classes, int64, shape (N,)."""
        return self.criterion.labels

    def logits(self, images: Tensor) -> Tensor:
        """Return the target's logits (N, classes), of a random one the mean of `eot` answers."""
        return mean_logits(self.model, images, self.eot)

    def project(self, images: Tensor) -> Tensor:
        """Clip to ±ε and [0, 1]; a new tensor."""
        return torch.clamp(images, self.lower, self.upper)

    def stored_levels(self, images: Tensor) -> Tensor:
        """Return the pixel values that would be stored: whole numbers within the budget, as floats.

        The bounds are whole numbers, so clipping after rounding is the same as projecting, rounding and
        projecting again.
        """
        levels = images * LEVELS
        return torch.clamp(levels.round_(), self.lowest, self.highest, out=levels)

    def stored(self, images: Tensor) -> Tensor:
        """Return what a reader of the stored bytes would decode; if not `quantised`, projected alone."""
        if not self.quantised:
            return self.project(images)
        return self.stored_levels(images).div_(LEVELS)

    def select(self, rows: Sequence[int]) -> "Problem":
        """Return the problem of some of the images."""
        indices = on_device(rows, self.clean.device)
        return replace(
            self,
            clean=self.clean[indices],
            criterion=self.criterion.select(indices),
            lowest=self.lowest[indices],
            highest=self.highest[indices],
            lower=self.lower[indices],
            upper=self.upper[indices],
            rng=self.rng.select(rows),
        )

    def with_criterion(self, criterion: Criterion) -> "Problem":
        """Return the same problem with another criterion."""
        return replace(self, criterion=criterion)

    def with_model(self, model: Model, *, batched_gradients: bool = True) -> "Problem":
        """Return the same problem with another form of the target."""
        return replace(self, model=model, batched_gradients=batched_gradients)

    def with_eot(self, samples: int) -> "Problem":
        """Return the same problem for a random target that is asked so often."""
        return replace(self, eot=samples)

    def with_restart(self, restart: int) -> "Problem":
        """Return the same problem with the random streams of another restart."""
        return replace(self, rng=self.rng.with_restart(restart))

    def with_part(self, part: str) -> "Problem":
        """Return the same problem with the random streams of one part of the attack."""
        return replace(self, rng=self.rng.with_part(part))


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What an attack returns.

    Attributes:
        images: float images, shape (N, C, H, W); `finalize` projects and rounds them.
        grad_evals: input-gradient evaluations spent on each image, int64, shape (N,).
    """

    images: Tensor
    grad_evals: Tensor


class Attack(Protocol):
    """An attack is a frozen dataclass of parameters with one method."""

    def propose(self, problem: Problem) -> Proposal:
        """Return float images; projection, rounding and checking happen outside."""


@dataclass(frozen=True, slots=True)
class AttackResult:
    """The outcome for a batch of N images.

    Attributes:
        adversarial: the bytes to store, uint8, shape (N, C, H, W).
        proposal_linf_255: L∞ distance of the unprojected proposal from the clean image, 1/255, (N,).
        pred_float: class of the projected float image before rounding, int64, (N,).
        grad_evals: input-gradient evaluations spent on each image, int64, (N,).
        target_classes: the class that each image was steered to, -1 for an untargeted attack, int64, (N,).
    """

    adversarial: Tensor
    proposal_linf_255: Tensor
    pred_float: Tensor
    grad_evals: Tensor
    target_classes: Tensor


def grad_evals_of(problem: Problem, evaluations: int) -> Tensor:
    """Return the counts of an attack that spends the same on every image, int64, (N,)."""
    return torch.full_like(problem.labels, evaluations)


def model_dtype(model: Model) -> torch.dtype:
    """Return the dtype of a module's first floating parameter; float32 for anything without one."""
    parameters = model.parameters() if isinstance(model, nn.Module) else iter(())
    return next((p.dtype for p in parameters if p.is_floating_point()), torch.float32)


def make_problem(
    model: Model, clean: Tensor, labels: Tensor, eps_255: int, rng: KeyedRng, dtype: torch.dtype
) -> Problem:
    """Turn stored bytes into the problem of an untargeted attack.

    Raises:
        ValueError: `clean` is not a non-empty uint8 batch (N, C, H, W), or labels or ids do not fit it.
    """
    if clean.dtype != torch.uint8 or clean.ndim != 4 or not len(clean):
        raise ValueError(f"clean must be uint8 (N, C, H, W), N ≥ 1; got {clean.dtype} {tuple(clean.shape)}")
    if labels.dtype != torch.int64 or labels.shape != clean.shape[:1]:
        raise ValueError(f"labels must be int64 ({len(clean)},); got {labels.dtype} {tuple(labels.shape)}")
    if len(rng.source_ids) != len(clean):
        raise ValueError(f"{len(clean)} images need as many source ids; got {len(rng.source_ids)}")
    levels = clean.to(dtype)
    lowest, highest = (levels - eps_255).clamp_(min=0), (levels + eps_255).clamp_(max=LEVELS)
    return Problem(
        model=model,
        clean=levels / LEVELS,
        criterion=Untargeted(labels),
        eps=eps_255 / LEVELS,
        lowest=lowest,
        highest=highest,
        lower=lowest / LEVELS,
        upper=highest / LEVELS,
        rng=rng,
    )


@torch.no_grad()
def finalize(problem: Problem, proposal: Proposal) -> AttackResult:
    """Project, round and check a proposal.

    Raises:
        AttackError: a proposal, or the target's logits of it, is not finite. A broken attack never passes for
            a failed one, and never becomes a copy of the clean image.
    """
    refuse_broken(proposal.images, "the attack proposed NaN or infinite pixels", problem.rng.source_ids)
    logits = problem.model(problem.project(proposal.images))
    refuse_broken(logits, "the target gives NaN or infinite logits", problem.rng.source_ids)
    distance = (proposal.images - problem.clean).abs().flatten(1).amax(1)
    return AttackResult(
        adversarial=problem.stored_levels(proposal.images).to(torch.uint8),
        proposal_linf_255=distance * LEVELS,
        pred_float=logits.argmax(1),
        grad_evals=proposal.grad_evals,
        target_classes=problem.criterion.target_classes
        if isinstance(problem.criterion, Targeted)
        else torch.full_like(problem.labels, -1),
    )


def refuse_broken(values: Tensor, complaint: str, source_ids: Sequence[str]) -> None:
    """Refuse values that are not finite.

    Args:
        values: (N, ...), one entry for each image.
        complaint: What is wrong then.
        source_ids: The images' names.

    Raises:
        AttackError: With the complaint and the names of the images.
    """
    broken = (~values.isfinite().flatten(1).all(1)).nonzero().flatten().tolist()
    if broken:
        raise AttackError(f"{complaint} for image {', '.join(source_ids[index] for index in broken)}")
