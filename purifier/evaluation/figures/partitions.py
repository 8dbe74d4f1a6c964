"""RIAE's uniform and random partition of images at test, in several samples (paper, section 5.3)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import torch
from torch import nn

from impure.manifests.base.tables import markdown_table
from impure.manifests.collection.collection import CommittedShard
from impure.purifier.defences.riae_defence import RIAEDefence
from impure.purifier.defences.static.none import NoDefence
from impure.purifier.evaluation.evaluate_config import EvaluateConfig
from impure.purifier.evaluation.figures.accuracy_bars import Bar
from impure.purifier.evaluation.measure import evaluate
from impure.purifier.evaluation.scores import Row, wilson
from impure.purifier.evaluation.select import line_names
from impure.purifier.riae.model import RIAE
from impure.purifier.riae.noise import Partition

NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionRow:
    """One partition's accuracy on one attack in every sample; `none` without a purifier has one."""

    target: str
    attack: str
    partition: str
    n: int
    correct: tuple[int, ...]  # by sample

    @property
    def mean(self) -> float:
        """Mean accuracy of the samples."""
        return math.fsum(self.correct) / len(self.correct) / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the mean, as of `n` images each right or wrong."""
        return wilson(round(self.mean * self.n), self.n)

    @property
    def bar(self) -> Bar:
        """The row as it is drawn."""
        low, high = self.interval
        return Bar(self.attack, self.partition, self.mean, min(low, self.mean), max(high, self.mean))

    def record(self) -> dict[str, Any]:
        """The row as files hold it."""
        low, high = self.interval
        return {
            "target": self.target,
            "attack": self.attack,
            "partition": self.partition,
            "n": self.n,
            "samples": len(self.correct),
            "accuracy": round(self.mean, 6),
            "wilson95_low": round(low, 6),
            "wilson95_high": round(high, 6),
            "lowest": round(min(self.correct) / self.n, 6),
            "highest": round(max(self.correct) / self.n, 6),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Partitions:
    """What was measured: rows by target and attack in the order of Table 1."""

    rows: tuple[PartitionRow, ...]
    conditions: Mapping[str, Any]


def measure_partitions(
    shards: Sequence[CommittedShard],
    classifiers: Mapping[str, nn.Module],
    riae: RIAE,
    config: EvaluateConfig,
    *,
    samples: int,
    device: torch.device,
    progress: bool = False,
) -> Partitions:
    """Measure a purifier with both partitions, each sample with the next seed.

    Args:
        shards: The shards, of any splits.
        classifiers: By the target's name in the shards.
        riae: The purifier.
        config: Its seed is that of the first sample.
        samples: How many.
        device: Where to compute, in float32.
        progress: Show a bar on standard error for each sample.

    Raises:
        InputError: See `evaluate`.
    """
    divided = {name: RIAEDefence(riae, partition=name) for name in get_args(Partition)}
    measured = [
        evaluate(
            shards,
            classifiers,
            divided if sample else {NONE: NoDefence(), **divided},
            replace(config, seed=config.seed + sample),
            device=device,
            progress=progress,
        )
        for sample in range(samples)
    ]
    rows: dict[tuple[str, str, str], list[Row]] = {}
    for evaluation in measured:
        for row in evaluation.rows:
            rows.setdefault((row.target, row.attack, row.defence), []).append(row)
    conditions = {
        **measured[0].conditions,
        "seed": f"{config.seed} and on, one for each sample",
        "samples": samples,
    }
    return Partitions(rows=tuple(_together(group) for group in rows.values()), conditions=conditions)


def _together(samples: Sequence[Row]) -> PartitionRow:
    """The samples of one partition on one attack."""
    first = samples[0]
    return PartitionRow(
        target=first.target,
        attack=first.attack,
        partition=first.defence,
        n=first.n,
        correct=tuple(row.correct for row in samples),
    )


def partition_table(rows: Sequence[PartitionRow]) -> str:
    """Mean accuracies in per cent, with the least and the most of the samples; Markdown."""
    columns = list(dict.fromkeys(row.partition for row in rows))
    names = line_names((row.target, row.attack) for row in rows)
    lines: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        key = row.target, row.attack
        line = lines.setdefault(key, [names[key], str(row.n)])
        line.append(_cell(row))
    return markdown_table(["attack", "n", *columns], list(lines.values()))


def _cell(row: PartitionRow) -> str:
    """Mean, and in brackets the least and the most where there are several samples."""
    if len(row.correct) == 1:
        return f"{100 * row.mean:.1f}"
    low, high = (100 * count(row.correct) / row.n for count in (min, max))
    return f"{100 * row.mean:.1f} ({low:.1f} to {high:.1f})"
