"""Validation on stored attacks: accuracy of the classifiers behind the defence, and image strips."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn

from impure.manifests.base.errors import InputError
from impure.manifests.base.files import atomic_path, writing
from impure.manifests.collection.collection import CommittedShard
from impure.manifests.collection.shard_id import CLEAN
from impure.purifier.defences.base.defence import Defence
from impure.purifier.defences.static.none import NoDefence
from impure.purifier.evaluation.image_strips import draw_strips, example
from impure.purifier.evaluation.measure_group import Defended, measure_group, undefended
from impure.purifier.evaluation.predict import Loaded, batch_seed, predict
from impure.purifier.evaluation.scores import Row
from impure.purifier.evaluation.select import Group, select_groups
from impure.purifier.evaluation.validation_table import FILE, NONE, Score, ValidationTable
from impure.purifier.training.validation.validator import CACHE_BYTES, Validator

STRIPS = "validation"  # folder of the image strips


class StoredValidator(Validator):
    """Measures a defence in training on the stored bytes: one sample, always the same.

    Writes `validation/epoch-NNNN.jpg` beside the table. Decoded images are kept in memory up to a bound.
    """

    def __init__(
        self,
        shards: Sequence[CommittedShard],
        classifiers: Mapping[str, nn.Module],
        out: Path,
        *,
        images: int,
        batch_size: int,
        device: torch.device,
        seed: int = 0,
        class_names: Sequence[str] = (),
        cache_bytes: int = CACHE_BYTES,
        progress: bool = False,
    ) -> None:
        """Choose the images; nothing is decoded yet.

        Args:
            shards: The shards, of any image sizes.
            classifiers: By the target's name in the shards: RGB in [0,1] in, logits out. They are moved
                to the device and into eval mode.
            out: The run's folder.
            images: At most this many of each target and attack, evenly from the classes.
            batch_size: Images at a time; on which the purifier's noise depends.
            device: Where to compute, in float32; the purifier's.
            seed: Of the purifier's noise.
            class_names: In label order, for the strips; numbers without.
            cache_bytes: Of decoded images to keep; further ones are decoded each time.
            progress: Show a bar on standard error while it measures.

        Raises:
            InputError: A target has no classifier, there are no attacked images, a value is impossible, or
                the `validation.csv` in `out` is damaged or of another validation.
        """
        groups = select_groups(shards, classifiers, images)
        if all(group.attack == CLEAN for group in groups):
            raise InputError("the validation shards hold no attacked sample")
        cells = [(group.target, group.attack, len(group.pairs)) for group in groups]
        super().__init__(
            groups, classifiers, ValidationTable(out / FILE, cells), batch_size=batch_size, device=device,
            seed=seed, progress=progress, cache_bytes=cache_bytes,
        )  # fmt: skip
        self._class_names = class_names
        self._undefended: list[Defended] = []  # the sample that each group shows
        self._strips = out / STRIPS

    def __call__(self, defence: Defence, name: str, epoch: int) -> Score:
        """Measure the defence, and draw its strips. See `Validator.__call__`."""
        rounds = 1 if self._undefended else 2
        with self._undisturbed(defence), torch.no_grad(), self._bar(rounds) as bar:
            if not self._undefended:
                self._measure_undefended(bar.update)
            measured = [self._measure(group, defence, name, bar.update) for group in self._groups]
        score = Score(rows=tuple(row for row, _ in measured))
        self._draw(epoch, [purified for _, purified in measured])
        self._table.put(epoch, name, score.rows)
        return score

    def _measure_undefended(self, advance: Callable[[int], object]) -> None:
        """What does not change: accuracy without a defence, and what the strips show of it."""
        self._table.put(
            0, NONE, [self._measure(group, NoDefence(), NONE, advance)[0] for group in self._groups]
        )
        self._undefended = [
            undefended(self._reader, group, self._classifiers[group.target], self._device)
            for group in self._groups
        ]

    def _measure(
        self, group: Group, defence: Defence, name: str, advance: Callable[[int], object]
    ) -> tuple[Row, Defended]:
        """A group's row behind a defence, and the sample that it shows."""
        classifier = self._classifiers[group.target]

        def defend(loaded: Loaded, number: int) -> Defended:
            defence.reseed(batch_seed(self._seed, number, 0))
            images = defence(loaded.attacked)
            logits_of = partial(defence.classify, classifier=classifier)
            defended = Defended({name: images}, {name: predict(logits_of, images)}, {})
            advance(len(images))
            return defended

        measured = measure_group(
            self._reader, group, defend, batch_size=self._batch_size, device=self._device
        )
        return measured.row(group, name), measured.shown

    def _draw(self, epoch: int, purified: Sequence[Defended]) -> None:
        """Write the epoch's image strips."""
        examples = [
            example(
                group.target,
                group.attack,
                group.pairs[group.shown],
                bare.images | behind.images,
                bare.predictions | behind.predictions,
            )
            for group, bare, behind in zip(self._groups, self._undefended, purified, strict=True)
        ]
        sheet = draw_strips(examples, self._class_names)
        path = self._strips / f"epoch-{epoch:04d}.jpg"
        with writing(path), atomic_path(path) as temporary:
            sheet.save(temporary, "JPEG", quality=92, subsampling=0)  # there will be a hundred
