"""One defence before one target: its cells, batch by batch, and what is measured beside them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import nn

from impure.manifests.base.canonical_json import digest
from impure.pipeline.attacks.engine.gradients import Model
from impure.pipeline.targets.target import state_sha256
from impure.pipeline.tensors import to_float
from impure.purifier.data.pair_reader import PairReader
from impure.purifier.data.pairs import pairs_digest
from impure.purifier.defences.base.defence import Defence
from impure.purifier.evaluation.adaptive.adaptive_columns import record_of
from impure.purifier.evaluation.adaptive.adaptive_config import AdaptiveConfig, Cell
from impure.purifier.evaluation.adaptive.adaptive_scores import AdaptiveRow, rows_of
from impure.purifier.evaluation.adaptive.attack_cell import LabelledImages, run_batch
from impure.purifier.evaluation.adaptive.attack_curves import Curves, curves_of
from impure.purifier.evaluation.adaptive.attacked_defence import AttackedDefence
from impure.purifier.evaluation.adaptive.cell_results import CellResults
from impure.purifier.evaluation.adaptive.cells import Subject, cells_of
from impure.purifier.evaluation.adaptive.checks.gradient_probe import probe_gradients
from impure.purifier.evaluation.adaptive.checks.sanity import Check, sanity
from impure.purifier.evaluation.adaptive.checks.self_checks import check_attack
from impure.purifier.evaluation.adaptive.pass_cost import Costs, Measure, flop_of
from impure.purifier.evaluation.select import Group, batches

FEW = 8  # images of measurements beside the cells


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectResult:
    """What was found about one defence before one target."""

    subject: Subject
    rows: tuple[AdaptiveRow, ...]
    checks: tuple[Check, ...]
    curves: Curves

    @property
    def is_broken(self) -> bool:
        """Whether a check failed: then the numbers say nothing about the defence."""
        return not all(check.passed for check in self.checks)

    @property
    def records(self) -> list[dict[str, Any]]:
        """The rows as files hold them; failed checks are flags of each."""
        flags = [check.name for check in self.checks if not check.passed]
        return [record_of(row, self.subject, [f"failed: {name}" for name in flags]) for row in self.rows]


class SubjectRun:
    """The evaluation of one defence before one target."""

    def __init__(
        self,
        group: Group,
        available: int,
        name: str,
        defence: Defence,
        classifier: nn.Module,
        config: AdaptiveConfig,
        out: Path,
    ) -> None:
        """Attack nothing yet.

        Args:
            group: The clean images.
            available: How many there were to choose from.
            name: The defence's column.
            defence: In eval mode, on the device.
            classifier: The target, likewise.
            config: How to attack.
            out: The evaluation's folder.
        """
        self.group = group
        self.defence = defence.requires_grad_(False)
        self.classifier = classifier.requires_grad_(False)
        self.config = config
        self.out = out
        self.reader = PairReader()
        weights = [state_sha256(defence), state_sha256(classifier)]
        shards = {pair.shard.stem: pair.shard for pair in group.pairs}
        plans = {shard.marker["config"].get("plan", "") for shard in shards.values()}
        self.subject = Subject(
            target=group.target,
            defence=name,
            settings=defence.settings,
            gradient=defence.gradient,
            is_random=defence.is_random,
            keeps_size=defence.keeps_size,
            images=len(group.pairs),
            available=available,
            plan=" ".join(sorted(plans - {""})),
            defence_weights=weights[0],
            target_weights=weights[1],
            weights=digest([*weights, defence.settings]),
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
        config, few = self.config, self.few(self.config.probe, device)
        gradients = probe_gradients(
            self.defence, self.classifier, to_float(few.clean), few.labels, config.seed
        )
        few = LabelledImages(few.clean[:FEW], few.labels[:FEW], few.ids[:FEW])
        known = check_attack(self.defence, self.classifier, few, max(config.eps), config.seed)
        flop = self.costs(flop_of, device, 1)
        return SubjectResult(
            subject=self.subject,
            rows=tuple(rows_of(config, self.subject, tables, flop)),
            checks=tuple(sanity(config, self.subject, tables, gradients, known)),
            curves=curves_of(config, self.subject, tables),
        )

    def costs(self, measure: Measure, device: torch.device, count: int) -> Costs:
        """What a pass of one of the first images costs, of the bare target and of all."""
        images = self.few(count, device)
        clean = to_float(images.clean)
        defended: Model = AttackedDefence(self.defence, self.classifier, "full", self.config.seed)
        return Costs(
            target=measure(self.classifier, clean, images.labels),
            defended=measure(defended, clean, images.labels),
        )

    def few(self, count: int, device: torch.device) -> LabelledImages:
        """The first images, at most a batch."""
        pairs = next(batches(self.group.pairs, min(count, self.config.batch_size)))
        return LabelledImages.read(self.reader, pairs, device)

    def _table(self, cell: Cell, device: torch.device, bar: Any) -> pa.Table:
        """The rows of a cell."""
        results = CellResults(self.out, cell)
        bar.set_postfix_str(f"{cell.target} {cell.defence} {cell.label}")
        for number, pairs in enumerate(batches(self.group.pairs[: cell.images], cell.batch_size)):
            if not results.has(number):
                images = LabelledImages.read(self.reader, pairs, device)
                done = run_batch(cell, number, self.defence, self.classifier, images)
                results.put(number, pairs, done)
            bar.update(len(pairs))
        return results.read()
