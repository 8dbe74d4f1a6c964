"""Keeps, while defences are measured, images of which one of two alone is right, for the image strips."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import nn

from impure.manifests.collection.shard_id import CLEAN
from impure.purifier.evaluation.image_strips import Example, example
from impure.purifier.evaluation.measure_group import MeasuredBatch
from impure.purifier.evaluation.predict import predict
from impure.purifier.evaluation.select import Group

FEW = 3  # of either kind for each comparison: other photographs, under other attacks


class Origin(NamedTuple):
    """Where an example is from; the photograph by the digest of its pixels."""

    target: str
    attack: str
    photograph: str


class DifferingExamples:
    """Told of every batch; see `measure_group.Observe`."""

    def __init__(self, names: Sequence[str], classifiers: Mapping[str, nn.Module]) -> None:
        """Keep nothing yet.

        Args:
            names: The defences, the first compared with each other.
            classifiers: By the target's name.
        """
        self._first, *self._others = names
        self._classifiers = classifiers
        self._kept: dict[tuple[str, bool], dict[Origin, Example]] = {
            (second, first_right): {} for second in self._others for first_right in (True, False)
        }

    @property
    def examples(self) -> list[Example]:
        """What was kept, by comparison and by who is right."""
        return [shown for kept in self._kept.values() for shown in kept.values()]

    def __call__(self, group: Group, batch: MeasuredBatch) -> None:
        """Keep an image of each kind, where one is still wanted."""
        first = batch.right[self._first]
        for (second, first_right), kept in self._kept.items():
            right = batch.right[second]
            differing = (first & ~right if first_right else ~first & right).nonzero()[:, 0].tolist()
            attacks = {(origin.target, origin.attack) for origin in kept}
            if len(kept) == FEW or (group.target, group.attack) in attacks:
                continue
            photographs = {origin.photograph for origin in kept}
            new = [row for row in differing if batch.pairs[row].clean_sha256 not in photographs]
            for row in new[:1]:
                origin = Origin(group.target, group.attack, batch.pairs[row].clean_sha256)
                kept[origin] = self._example(group, batch, row, second, first_right=first_right)

    def _example(
        self, group: Group, batch: MeasuredBatch, row: int, second: str, *, first_right: bool
    ) -> Example:
        """One sample of the batch with both defences."""
        classifier = self._classifiers[group.target]
        bare = {"clean": batch.loaded.clean[row : row + 1]}
        if group.attack != CLEAN:
            bare["adversarial"] = batch.loaded.attacked[row : row + 1]
        predictions: dict[str, torch.Tensor] = {
            name: predict(classifier, image) for name, image in bare.items()
        }
        sample = batch.defended.sample(row)
        shown = [name for name in (self._first, second) if name != "none"]
        return example(
            group.target,
            group.attack,
            batch.pairs[row],
            bare | {name: sample.images[name] for name in shown},
            predictions | {name: sample.predictions[name] for name in shown},
            note=f"only {self._first if first_right else second} is right",
        )
