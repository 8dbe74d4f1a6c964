"""The measurement loop: what a classifier predicts behind defences, over one group of stored samples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from impure.manifests.collection.shard_id import CLEAN
from impure.purifier.data.pair_reader import PairReader
from impure.purifier.data.pairs import Pair
from impure.purifier.evaluation.predict import NO_CLASS, Loaded, load, predict
from impure.purifier.evaluation.scores import Row
from impure.purifier.evaluation.select import Group, batches


class Defended(NamedTuple):
    """A batch behind defences.

    Attributes:
        images: RGB in [0,1] (B, 3, H, W), by defence.
        predictions: Predicted classes (B,), by the name of the row that counts them.
        rejected: What a detector refused (B,), bool, by the same names; rows without detectors are missing.
    """

    images: dict[str, Tensor]
    predictions: dict[str, Tensor]
    rejected: dict[str, Tensor]

    def sample(self, row: int) -> "Defended":
        """One sample of the batch, as a batch of one, for the image strips."""
        return Defended(
            {name: images[row : row + 1] for name, images in self.images.items()},
            {name: classes[row : row + 1] for name, classes in self.predictions.items()},
            {},
        )


Defend = Callable[[Loaded, int], Defended]
"""Defends and classifies a batch, given with its number in the group."""


class MeasuredBatch(NamedTuple):
    """A batch after it was measured.

    Attributes:
        pairs: The samples.
        loaded: Their images and labels.
        defended: They behind the defences.
        right: Which predictions count as right (B,), bool, by name of the row.
    """

    pairs: Sequence[Pair]
    loaded: Loaded
    defended: Defended
    right: dict[str, Tensor]


Observe = Callable[[Group, MeasuredBatch], object]
"""Told of every batch, while its images are at hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMeasurement:
    """What was measured of a group, one value for each of its samples; tensors are on the CPU.

    Attributes:
        predictions: Predicted classes (n,), by name of the row; `NO_CLASS` where they were not finite.
        right: Which of them count as right (n,), bool, by the same names. A rejected image does if it is
            attacked, and does not if it is clean.
        rejected: Rejected images (n,), bool, by name of the rows with detectors.
        shown: The sample that the group shows, as a batch of one.
    """

    predictions: dict[str, Tensor]
    right: dict[str, Tensor]
    rejected: dict[str, Tensor]
    shown: Defended

    def correct(self, name: str) -> int:
        """How many predictions of a row count as right."""
        return int(self.right[name].sum())

    def row(self, group: Group, name: str) -> Row:
        """The row of this name, of one sample, where `group` is what was measured."""
        return Row(
            target=group.target,
            attack=group.attack,
            defence=name,
            n=len(group.pairs),
            correct=self.correct(name),
        )

    @property
    def not_finite(self) -> int:
        """Predictions of all rows that were not finite."""
        return sum(int((classes == NO_CLASS).sum()) for classes in self.predictions.values())


def measure_group(
    reader: PairReader,
    group: Group,
    defend: Defend,
    *,
    batch_size: int,
    device: torch.device,
    advance: Callable[[int], object] = int,
    observe: Observe | None = None,
) -> GroupMeasurement:
    """Classify a group behind defences.

    Args:
        reader: Decodes the stored images.
        group: The samples; at least one.
        defend: Called with each batch.
        batch_size: Images at a time.
        device: Where to compute.
        advance: Told the number of images after each batch.
        observe: Told of each batch.

    Raises:
        InputError: A shard is inconsistent.
    """
    kept = []
    shown = Defended({}, {}, {})
    measured = 0
    for number, batch in enumerate(batches(group.pairs, batch_size)):
        loaded = load(reader, batch, group.attack, device)
        defended = defend(loaded, number)
        counted = _right(defended, loaded.labels, clean=group.attack == CLEAN)
        kept.append((defended.predictions, counted, defended.rejected))
        if observe is not None:
            observe(group, MeasuredBatch(batch, loaded, defended, counted))
        if measured <= group.shown < measured + len(batch):
            shown = defended.sample(group.shown - measured)
        measured += len(batch)
        advance(len(batch))
    predictions, right, rejected = map(_joined, zip(*kept, strict=True))
    return GroupMeasurement(predictions=predictions, right=right, rejected=rejected, shown=shown)


def _right(defended: Defended, labels: Tensor, *, clean: bool) -> dict[str, Tensor]:
    """Which predictions of a batch count as right (B,), by name of the row."""
    right = {name: classes == labels for name, classes in defended.predictions.items()}
    for name, refused in defended.rejected.items():
        right[name] = right[name] & ~refused if clean else right[name] | refused
    return right


def _joined(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """What batches hold by the same names, as one tensor of each."""
    return {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}


def shown_sample(
    reader: PairReader, group: Group, defend: Defend, *, batch_size: int, device: torch.device
) -> Defended:
    """The sample that a group shows, defended in its batch, as `measure_group` does it."""
    first = 0
    for number, batch in enumerate(batches(group.pairs, batch_size)):
        if group.shown < first + len(batch):
            loaded = load(reader, batch, group.attack, device)
            return defend(loaded, number).sample(group.shown - first)
        first += len(batch)
    raise IndexError(f"sample {group.shown} of {first}")


def undefended(reader: PairReader, group: Group, classifier: nn.Module, device: torch.device) -> Defended:
    """The sample that a group shows, without a defence, clean and adversarial, for the image strips."""
    loaded = load(reader, [group.pairs[group.shown]], group.attack, device)
    images = {"clean": loaded.clean, "adversarial": loaded.attacked}
    return Defended(images, {name: predict(classifier, image) for name, image in images.items()}, {})
