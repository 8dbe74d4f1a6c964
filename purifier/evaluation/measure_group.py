"""The measurement loop: what a classifier predicts behind defences, over one group of stored samples."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from impure.manifests.collection.shard_id import CLEAN
from impure.purifier.data.pair_reader import PairReader
from impure.purifier.evaluation.predict import NO_CLASS, Loaded, load, predict
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


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMeasurement:
    """What was counted in a group.

    Attributes:
        correct: Right predictions, by name of the row. A rejected image counts as right if it is attacked, as
            wrong if it is clean.
        rejected: Rejected images, by name of the rows with detectors.
        not_finite: Predictions of all rows that were not finite.
        shown: The sample that the group shows, as a batch of one.
    """

    correct: dict[str, int]
    rejected: dict[str, int]
    not_finite: int
    shown: Defended


def measure_group(
    reader: PairReader,
    group: Group,
    defend: Defend,
    *,
    batch_size: int,
    device: torch.device,
    advance: Callable[[int], object] = int,
) -> GroupMeasurement:
    """Count right predictions over a group.

    Args:
        reader: Decodes the stored images.
        group: The samples; at least one.
        defend: Called with each batch.
        batch_size: Images at a time.
        device: Where to compute.
        advance: Told the number of images after each batch.

    Raises:
        InputError: A shard is inconsistent.
    """
    correct: dict[str, Tensor] = {}
    rejected: dict[str, Tensor] = {}
    not_finite = torch.zeros((), dtype=torch.int64, device=device)
    shown = Defended({}, {}, {})
    measured = 0
    for number, batch in enumerate(batches(group.pairs, batch_size)):
        loaded = load(reader, batch, group.attack, device)
        defended = defend(loaded, number)
        for name, classes in defended.predictions.items():
            right = classes == loaded.labels
            if name in defended.rejected:
                refused = defended.rejected[name]
                right = right & ~refused if group.attack == CLEAN else right | refused
                rejected[name] = rejected.get(name, 0) + refused.sum()
            correct[name] = correct.get(name, 0) + right.sum()
            not_finite += (classes == NO_CLASS).sum()
        if measured <= group.shown < measured + len(batch):
            shown = defended.sample(group.shown - measured)
        measured += len(batch)
        advance(len(batch))
    return GroupMeasurement(
        correct={name: int(count) for name, count in correct.items()},
        rejected={name: int(count) for name, count in rejected.items()},
        not_finite=int(not_finite),
        shown=shown,
    )


def undefended(reader: PairReader, group: Group, classifier: nn.Module, device: torch.device) -> Defended:
    """The sample that a group shows, without a defence, clean and adversarial, for the image strips."""
    loaded = load(reader, [group.pairs[group.shown]], group.attack, device)
    images = {"clean": loaded.clean, "adversarial": loaded.attacked}
    return Defended(images, {name: predict(classifier, image) for name, image in images.items()}, {})
