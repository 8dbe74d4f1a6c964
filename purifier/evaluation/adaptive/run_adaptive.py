"""Runs an adaptive evaluation, batch by batch, and goes on where one was stopped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import nn
from tqdm import tqdm

from impure.manifests.base.canonical_json import digest
from impure.manifests.collection.collection import CommittedShard
from impure.manifests.collection.shard_id import CLEAN
from impure.pipeline.targets.target import state_sha256
from impure.pipeline.tensors import to_float
from impure.purifier.data.pair_reader import PairReader
from impure.purifier.data.pairs import Pair, pairs_digest
from impure.purifier.defences.base.defence import Defence
from impure.purifier.evaluation.adaptive.adaptive_config import AdaptiveConfig, Cell
from impure.purifier.evaluation.adaptive.adaptive_scores import AdaptiveRow, rows_of
from impure.purifier.evaluation.adaptive.attack_cell import LabelledImages, run_batch
from impure.purifier.evaluation.adaptive.cell_results import CellResults
from impure.purifier.evaluation.adaptive.cells import Subject, cells_of, table_cells
from impure.purifier.evaluation.adaptive.gradient_probe import probe_gradients
from impure.purifier.evaluation.adaptive.sanity import Check, sanity
from impure.purifier.evaluation.select import Group, batches, select_groups


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectResult:
    """What was found about one defence before one target."""

    subject: Subject
    rows: tuple[AdaptiveRow, ...]
    checks: tuple[Check, ...]

    @property
    def is_broken(self) -> bool:
        """Whether a check failed: then the numbers say nothing about the defence."""
        return not all(check.passed for check in self.checks)


def evaluate_adaptively(
    shards: Sequence[CommittedShard],
    classifiers: Mapping[str, nn.Module],
    defences: Mapping[str, Defence],
    config: AdaptiveConfig,
    out: Path,
    *,
    device: torch.device,
    progress: bool = False,
) -> list[SubjectResult]:
    """Attack every defence before every target of the shards, on their clean images.

    Batches that are in `out` already are not attacked again.

    Args:
        shards: The shards, of any splits; only their clean images are used.
        classifiers: By the target's name in the shards: RGB in [0,1] in, logits out.
        defences: By the names of their columns.
        config: How to attack.
        out: The evaluation's folder.
        device: Where to compute, in float32.
        progress: Show a bar on standard error.

    Raises:
        InputError: There is no clean image, an attack is unknown or cannot be run on a target.
        WriteError: The folder cannot be written.
    """
    groups = [group for group in select_groups(shards, classifiers, config.images) if group.attack == CLEAN]
    jobs = [
        _SubjectRun(
            group, name, defence.to(device).eval(), classifiers[group.target].to(device).eval(), config, out
        )
        for group in groups
        for name, defence in defences.items()
    ]
    total = sum(job.images for job in jobs)
    bar: Any = tqdm(total=total, unit="img", disable=not progress)
    with bar:
        return [job.run(device, bar) for job in jobs]


class _SubjectRun:
    """One defence before one target."""

    def __init__(
        self,
        group: Group,
        name: str,
        defence: Defence,
        classifier: nn.Module,
        config: AdaptiveConfig,
        out: Path,
    ) -> None:
        self.group = group
        self.defence = defence.requires_grad_(False)
        self.classifier = classifier.requires_grad_(False)
        self.config = config
        self.out = out
        self.reader = PairReader()
        self.subject = Subject(
            target=group.target,
            defence=name,
            is_random=defence.is_random,
            keeps_size=defence.keeps_size,
            images=len(group.pairs),
            weights=digest([state_sha256(defence), state_sha256(classifier)]),
            pixels=pairs_digest(group.pairs),
        )
        self.cells = cells_of(config, self.subject)

    @property
    def images(self) -> int:
        """Attacked images of all cells."""
        return sum(cell.images for cell in self.cells)

    def run(self, device: torch.device, bar: Any) -> SubjectResult:
        """Attack what has not been attacked yet, and sum up."""
        tables = {cell: self._table(cell, device, bar) for cell in self.cells}
        pairs = next(batches(self.group.pairs, min(self.config.probe, self.config.batch_size)))
        probe = self._load(pairs, device)
        gradients = probe_gradients(
            self.defence, self.classifier, to_float(probe.clean), probe.labels, self.config.seed
        )
        return SubjectResult(
            subject=self.subject,
            rows=tuple(rows_of({cell: tables[cell] for cell in table_cells(self.config, self.subject)})),
            checks=tuple(sanity(self.config, self.subject, tables, gradients)),
        )

    def _table(self, cell: Cell, device: torch.device, bar: Any) -> pa.Table:
        """The rows of a cell."""
        results = CellResults(self.out, cell)
        bar.set_postfix_str(f"{cell.target} {cell.defence} {cell.label}")
        for number, pairs in enumerate(batches(self.group.pairs[: cell.images], cell.batch_size)):
            if not results.has(number):
                images = self._load(pairs, device)
                done = run_batch(cell, number, self.defence, self.classifier, images)
                results.put(number, pairs, done)
            bar.update(len(pairs))
        return results.read()

    def _load(self, pairs: Sequence[Pair], device: torch.device) -> LabelledImages:
        """Clean images on the device."""
        clean = torch.stack([self.reader.clean(pair) for pair in pairs]).to(device)
        labels = torch.tensor([pair.label for pair in pairs], device=device)
        return LabelledImages(clean, labels, [pair.clean_sha256 for pair in pairs])
