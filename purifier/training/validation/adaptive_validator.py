"""Validation of stage adversarial: accuracy under attacks that go through the defence as it is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from impure.manifests.collection.collection import CommittedShard
from impure.manifests.collection.shard_id import CLEAN
from impure.pipeline.attacks.attack_config import AttackConfig
from impure.purifier.defences.base.defence import Defence
from impure.purifier.defences.static.none import NoDefence
from impure.purifier.evaluation.adaptive.adaptive_config import Cell
from impure.purifier.evaluation.adaptive.attack_cell import LabelledImages, run_batch
from impure.purifier.evaluation.scores import Row
from impure.purifier.evaluation.select import Group, batches, select_groups
from impure.purifier.evaluation.validation_table import ADAPTIVE, FILE, NONE, Score, ValidationTable
from impure.purifier.training.validation.validator import Validator

ATTACK = "pgd-ce"
STEPS = 20
EOT = 5  # passes through a random defence for each gradient
SAMPLES = 5  # fresh draws of a random defence for the verdict, all of which have to be right


class AdaptiveValidator(Validator):
    """Attacks a defence in training through itself and its targets, and counts the worst of fresh draws.

    For each target the clean images are measured, and the same images attacked by PGD of 20 steps, each
    gradient the mean of 5 passes. An image is right if all of 5 draws are. Rows with defence `none` are of
    the bare classifier under the same attack.
    """

    def __init__(
        self,
        shards: Sequence[CommittedShard],
        classifiers: Mapping[str, nn.Module],
        out: Path,
        *,
        eps: int,
        images: int,
        batch_size: int,
        device: torch.device,
        seed: int = 0,
        progress: bool = False,
    ) -> None:
        """Choose the images; nothing is decoded yet.

        Args:
            shards: The shards, of any image sizes; only their clean images are used.
            classifiers: By the target's name in the shards: RGB in [0,1] in, logits out. They are moved
                to the device and into eval mode.
            out: The run's folder.
            eps: L∞ budget in units of 1/255.
            images: At most this many of each target, evenly from the classes.
            batch_size: Images at a time; on which the defence's draws depend.
            device: Where to compute, in float32; the defence's.
            seed: Of starts and draws.
            progress: Show a bar on standard error while it attacks.

        Raises:
            InputError: A target has no classifier, a value is impossible, or the `validation.csv` in `out` is
                damaged or of another validation.
        """
        self._eps = eps
        self._attack = ADAPTIVE + AttackConfig(name=ATTACK, eps_255=eps).key
        groups = [group for group in select_groups(shards, classifiers, images) if group.attack == CLEAN]
        cells = [
            (group.target, attack, len(group.pairs)) for group in groups for attack in (CLEAN, self._attack)
        ]
        super().__init__(
            groups, classifiers, ValidationTable(out / FILE, cells),
            batch_size=batch_size, device=device, seed=seed, progress=progress,
        )  # fmt: skip
        self._undefended = False  # whether the bare classifiers have been measured

    def __call__(self, defence: Defence, name: str, epoch: int) -> Score:
        """Attack the defence. See `Validator.__call__`."""
        rounds = 2 if self._undefended else 4
        with self._undisturbed(defence), self._bar(rounds) as bar:
            if not self._undefended:
                self._table.put(0, NONE, self._measure(NoDefence(), NONE, bar))
                self._undefended = True
            score = Score(rows=tuple(self._measure(defence, name, bar)))
        self._table.put(epoch, name, score.rows)
        return score

    def _measure(self, defence: Defence, name: str, bar: Any) -> list[Row]:
        """The rows of a defence: each target's clean images, and the same attacked."""
        return [
            self._row(group, defence, self._cell(group, defence, name, attack, eps), bar)
            for group in self._groups
            for attack, eps in ((CLEAN, 0), (ATTACK, self._eps))
        ]

    def _cell(self, group: Group, defence: Defence, name: str, attack: str, eps: int) -> Cell:
        """How a group is attacked; a defence without draws is asked once."""
        return Cell(
            target=group.target,
            defence=name,
            knowledge="full" if eps else "none",
            attack=attack,
            eps=eps,
            steps=STEPS if eps else 0,
            eot=EOT if eps and defence.is_random else 1,
            restarts=1,
            images=len(group.pairs),
            samples=SAMPLES if defence.is_random else 1,
            seed=self._seed,
            batch_size=self._batch_size,
            weights="",  # of this moment: the cell names no file
            pixels="",
        )

    def _row(self, group: Group, defence: Defence, cell: Cell, bar: Any) -> Row:
        """Attack a group, and count the images that are right in every draw."""
        classifier = self._classifiers[group.target]
        correct = 0
        for number, pairs in enumerate(batches(group.pairs, cell.batch_size)):
            images = LabelledImages.read(self._reader, pairs, self._device)
            done = run_batch(cell, number, defence, classifier, images)
            correct += int((done.predictions == images.labels).all(0).sum())
            bar.update(len(pairs))
        return Row(
            target=cell.target,
            attack=self._attack if cell.eps else CLEAN,
            defence=cell.defence,
            n=cell.images,
            correct=correct,
        )
