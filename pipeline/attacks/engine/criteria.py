"""What an attack wants the target to answer: any class but the true one, or one class in particular."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from impure.manifests.base.errors import InputError

GUARD = 1e-12
"""Added to DLR's denominator, as the authors' program does."""


class Criterion(Protocol):
    """Losses to climb, (N,) each, from logits (N, classes); all of them rise towards the goal."""

    @property
    def labels(self) -> Tensor:
        """True classes, int64, (N,)."""

    def reached(self, logits: Tensor) -> Tensor:
        """Whether the answer is what the attack wants, bool, (N,)."""

    def cross_entropy(self, logits: Tensor) -> Tensor:
        """The cross-entropy of the true class, or minus that of the class aimed at."""

    def margin(self, logits: Tensor) -> Tensor:
        """Logits' lead over failure: positive where the goal is reached (Carlini & Wagner 2017, f₆)."""

    def dlr(self, logits: Tensor) -> Tensor:
        """The difference of logits ratio (Croce & Hein 2020, section 4)."""

    def take(self, indices: Tensor) -> "Criterion":
        """The goal for some of the images."""


@dataclass(frozen=True, slots=True)
class Untargeted:
    """Any class but the true one."""

    labels: Tensor

    def reached(self, logits: Tensor) -> Tensor:
        """See `Criterion`."""
        return logits.argmax(1) != self.labels

    def cross_entropy(self, logits: Tensor) -> Tensor:
        """See `Criterion`."""
        return cross_entropy(logits, self.labels, reduction="none")

    def margin(self, logits: Tensor) -> Tensor:
        """max_{i≠y} z_i − z_y, whatever the logits' signs."""
        return best_but(logits, self.labels) - logit(logits, self.labels)

    def dlr(self, logits: Tensor) -> Tensor:
        """−(z_y − max_{i≠y} z_i) / (z_π1 − z_π3) (Eq. 5); its gradient vanishes where y ranks third.

        Raises:
            InputError: the target has fewer than three classes.
        """
        values, classes = _ranked(logits, 3, "DLR")
        rival = torch.where(classes[:, 0] == self.labels, values[:, 1], values[:, 0])
        return (rival - logit(logits, self.labels)) / (values[:, 0] - values[:, 2] + GUARD)

    def take(self, indices: Tensor) -> "Untargeted":
        """See `Criterion`."""
        return Untargeted(self.labels[indices])


@dataclass(frozen=True, slots=True)
class Targeted:
    """One class for each image: `target_classes`, int64, (N,)."""

    labels: Tensor
    target_classes: Tensor

    def reached(self, logits: Tensor) -> Tensor:
        """See `Criterion`."""
        return logits.argmax(1) == self.target_classes

    def cross_entropy(self, logits: Tensor) -> Tensor:
        """See `Criterion`."""
        return -cross_entropy(logits, self.target_classes, reduction="none")

    def margin(self, logits: Tensor) -> Tensor:
        """z_t − max_{i≠t} z_i."""
        return logit(logits, self.target_classes) - best_but(logits, self.target_classes)

    def dlr(self, logits: Tensor) -> Tensor:
        """−(z_y − z_t) / (z_π1 − (z_π3 + z_π4)/2) (Eq. 6).

        Raises:
            InputError: the target has fewer than four classes.
        """
        values, _ = _ranked(logits, 4, "targeted DLR")
        lead = logit(logits, self.target_classes) - logit(logits, self.labels)
        return lead / (values[:, 0] - (values[:, 2] + values[:, 3]) / 2 + GUARD)

    def take(self, indices: Tensor) -> "Targeted":
        """See `Criterion`."""
        return Targeted(self.labels[indices], self.target_classes[indices])


def logit(logits: Tensor, classes: Tensor) -> Tensor:
    """Return each image's logit of its class, (N,)."""
    return logits.gather(1, classes[:, None]).squeeze(1)


def best_but(logits: Tensor, classes: Tensor) -> Tensor:
    """Return each image's largest logit but that of its class, (N,)."""
    return logits.scatter(1, classes[:, None], -torch.inf).amax(1)


def top_other_classes(logits: Tensor, labels: Tensor, count: int) -> Tensor:
    """Return the classes with the largest logits but the true one, int64, (N, count or what there is).

    Raises:
        InputError: there is no other class.
    """
    if logits.shape[1] < 2:
        raise InputError("the attack needs a target of 2 classes or more; this one has 1")
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.topk(min(count, logits.shape[1] - 1), dim=1).indices


def _ranked(logits: Tensor, count: int, loss: str) -> tuple[Tensor, Tensor]:
    if logits.shape[1] < count:
        raise InputError(f"{loss} needs a target of {count} classes or more; this one has {logits.shape[1]}")
    ranked = logits.topk(count, dim=1)
    return ranked.values, ranked.indices
