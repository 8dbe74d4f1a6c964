"""What an attack wants the target to predict: any class but the true one, or one class in particular."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from impure.manifests.base.errors import InputError

DLR_EPSILON = 1e-12
"""Added to DLR's denominator, as the authors' program does."""


class Criterion(Protocol):
    """Losses to maximise, (N,) each, from logits (N, classes), and which predictions are a success."""

    @property
    def labels(self) -> Tensor:
        """True classes, int64, (N,)."""

    def reached(self, logits: Tensor) -> Tensor:
        """Whether the prediction is what the attack wants, bool, (N,)."""

    def cross_entropy(self, logits: Tensor) -> Tensor:
        """The cross-entropy of the true class, or minus that of the target class."""

    def margin(self, logits: Tensor) -> Tensor:
        """The margin of success: positive where the criterion is reached (Carlini & Wagner 2017, f₆)."""

    def dlr(self, logits: Tensor) -> Tensor:
        """The difference of logits ratio (Croce & Hein 2020, section 4)."""

    def select(self, indices: Tensor) -> "Criterion":
        """Return the criterion of some of the images."""


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
        return largest_other_logit(logits, self.labels) - logit_of(logits, self.labels)

    def dlr(self, logits: Tensor) -> Tensor:
        """−(z_y − max_{i≠y} z_i) / (z_π1 − z_π3) (Eq. 5); its gradient vanishes where y ranks third.

        Raises:
            InputError: the target has fewer than three classes.
        """
        values, classes = _ranked(logits, 3, "DLR")
        rival = torch.where(classes[:, 0] == self.labels, values[:, 1], values[:, 0])
        return (rival - logit_of(logits, self.labels)) / (values[:, 0] - values[:, 2] + DLR_EPSILON)

    def select(self, indices: Tensor) -> "Untargeted":
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
        return logit_of(logits, self.target_classes) - largest_other_logit(logits, self.target_classes)

    def dlr(self, logits: Tensor) -> Tensor:
        """−(z_y − z_t) / (z_π1 − (z_π3 + z_π4)/2) (Eq. 6).

        Raises:
            InputError: the target has fewer than four classes.
        """
        values, _ = _ranked(logits, 4, "targeted DLR")
        lead = logit_of(logits, self.target_classes) - logit_of(logits, self.labels)
        return lead / (values[:, 0] - (values[:, 2] + values[:, 3]) / 2 + DLR_EPSILON)

    def select(self, indices: Tensor) -> "Targeted":
        """See `Criterion`."""
        return Targeted(self.labels[indices], self.target_classes[indices])


Loss = Callable[[Criterion, Tensor], Tensor]
"""Maps a criterion and logits (N, classes) to the loss to maximise, (N,)."""


def cross_entropy_loss(criterion: Criterion, logits: Tensor) -> Tensor:
    """See `Criterion.cross_entropy`."""
    return criterion.cross_entropy(logits)


def dlr_loss(criterion: Criterion, logits: Tensor) -> Tensor:
    """See `Criterion.dlr`."""
    return criterion.dlr(logits)


def margin_loss(criterion: Criterion, logits: Tensor) -> Tensor:
    """See `Criterion.margin`."""
    return criterion.margin(logits)


def logit_of(logits: Tensor, classes: Tensor) -> Tensor:
    """Return each image's logit of its class, (N,)."""
    return logits.gather(1, classes[:, None]).squeeze(1)


def largest_other_logit(logits: Tensor, classes: Tensor) -> Tensor:
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
