"""Scores: right predictions behind a defence, with Wilson's interval, and means over the attacks."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypedDict

from impure.manifests.base.errors import InputError
from impure.manifests.collection.shard_id import CLEAN


class RowRecord(TypedDict):
    """A row in files; what was added later stands at the end."""

    target: str
    attack: str
    defence: str
    n: int
    correct: int
    accuracy: float
    wilson95_low: float
    wilson95_high: float
    combine: str
    samples: int
    rejected: int | None


COLUMNS = tuple(RowRecord.__annotations__)
Z_95 = 1.959963984540054  # two-sided 95 % quantile of the normal distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One cell of Table 1: one target, one attack (or `clean`), one defence, one way to combine samples.

    Raises:
        InputError: The counts are impossible.
    """

    target: str
    attack: str
    defence: str
    n: int
    correct: int
    combine: str = "one"  # how the samples became one prediction; see `predict.combined`
    samples: int = 1
    rejected: int | None = None  # by detectors: right of attacked images, wrong of clean ones; None without

    def __post_init__(self) -> None:
        wilson(self.correct, self.n)

    @property
    def accuracy(self) -> float:
        """Right predictions divided by all."""
        return self.correct / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy."""
        return wilson(self.correct, self.n)

    @property
    def label(self) -> str:
        """The defence, and how its samples were combined where there were several."""
        return _label(self.defence, self.combine, self.samples)

    def record(self) -> RowRecord:
        """The row as files hold it."""
        low, high = self.interval
        return RowRecord(
            target=self.target,
            attack=self.attack,
            defence=self.defence,
            n=self.n,
            correct=self.correct,
            accuracy=_short(self.accuracy),
            wilson95_low=_short(low),
            wilson95_high=_short(high),
            combine=self.combine,
            samples=self.samples,
            rejected=self.rejected,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """Unweighted mean accuracy of a target and defence over the attacks, without `clean`."""

    target: str
    defence: str
    attacks: int
    accuracy: float
    combine: str = "one"
    samples: int = 1

    @property
    def label(self) -> str:
        """The column, as of a row."""
        return _label(self.defence, self.combine, self.samples)


def means(rows: Iterable[Row]) -> tuple[Mean, ...]:
    """The mean over the attacks for each target, defence and combination, in the order of the rows."""
    groups: dict[tuple[str, str, str, int], list[float]] = {}
    for row in rows:
        if row.attack != CLEAN:
            key = (row.target, row.defence, row.combine, row.samples)
            groups.setdefault(key, []).append(row.accuracy)
    return tuple(
        Mean(
            target=target,
            defence=defence,
            attacks=len(accuracies),
            accuracy=_short(math.fsum(accuracies) / len(accuracies)),
            combine=combine,
            samples=samples,
        )
        for (target, defence, combine, samples), accuracies in groups.items()
    )


def _label(defence: str, combine: str, samples: int) -> str:
    """A column's name."""
    return defence if samples == 1 else f"{defence} ({combine} of {samples})"


def _short(value: float) -> float:
    """A share without digits that say nothing; counts stand beside it."""
    return round(value, 6)


def wilson(correct: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion (Wilson 1927).

    Raises:
        InputError: `n` is not positive, or `correct` is not between 0 and `n`.
    """
    if n < 1 or not 0 <= correct <= n:
        raise InputError(f"no interval for {correct} right of {n}")
    rate = correct / n
    z2 = Z_95**2
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    low = max(centre - half, 0.0) if correct else 0.0  # at both ends rounding would leave 6e-17
    return low, min(centre + half, 1.0) if correct < n else 1.0
