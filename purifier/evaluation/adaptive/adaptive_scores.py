"""Accuracy under adaptive attack: mean, worst and vote of draws, and the least over attacks."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import comb
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from impure.purifier.evaluation.adaptive.adaptive_config import CONTROLS, Cell
from impure.purifier.evaluation.adaptive.cell_results import correctness
from impure.purifier.evaluation.predict import NO_CLASS
from impure.purifier.evaluation.scores import wilson

ALL = "all attacks"  # per image the least over the attacks of one budget


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """How often each image was right.

    Attributes:
        share: Of the draws (n,).
        worst: Whether it was right in every draw (n,).
        vote: Whether the class seen most often is right (n,); among equals the smallest class counts.
    """

    share: NDArray[np.float64]
    worst: NDArray[np.bool_]
    vote: NDArray[np.bool_]

    @classmethod
    def of(cls, table: pa.Table) -> "Verdicts":
        """Those of a cell's rows."""
        predictions, labels = correctness(table)
        right = predictions == labels[:, None]
        votes = np.array([_most(row) for row in predictions])
        return cls(share=right.mean(1), worst=right.all(1), vote=votes == labels)

    def first(self, count: int) -> "Verdicts":
        """Those of the first images alone."""
        return Verdicts(share=self.share[:count], worst=self.worst[:count], vote=self.vote[:count])

    def least(self, other: "Verdicts") -> "Verdicts":
        """Per image what both attacks leave."""
        return Verdicts(
            share=np.minimum(self.share, other.share),
            worst=self.worst & other.worst,
            vote=self.vote & other.vote,
        )


def _most(predictions: NDArray[np.int64]) -> int:
    """The class seen most often."""
    classes, counts = np.unique(predictions, return_counts=True)
    return int(classes[counts.argmax()]) if len(classes) else NO_CLASS


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveRow:
    """A row of the table.

    Attributes:
        cell: The attack; with `attack` "all attacks" the least of them per image.
        n: Images.
        mean: Share of right predictions over images and draws.
        worst: Share of images right in every draw.
        vote: Share of images whose majority of draws is right.
        mean_interval: Wilson's 95 % interval of `n` images, as if each were right or wrong.
        worst_interval: Likewise.
        vote_interval: Likewise.
        grad_evals: Gradients taken of an image, counting each draw.
        seconds: Of the attack on an image.
    """

    cell: Cell
    n: int
    mean: float
    worst: float
    vote: float
    mean_interval: tuple[float, float]
    worst_interval: tuple[float, float]
    vote_interval: tuple[float, float]
    grad_evals: float
    seconds: float

    @classmethod
    def of(cls, cell: Cell, verdicts: Verdicts, *, grad_evals: float, seconds: float) -> "AdaptiveRow":
        """The row of some verdicts."""
        n = len(verdicts.share)
        return cls(
            cell=cell,
            n=n,
            mean=float(verdicts.share.mean()),
            worst=float(verdicts.worst.mean()),
            vote=float(verdicts.vote.mean()),
            mean_interval=wilson(round(float(verdicts.share.sum())), n),
            worst_interval=wilson(int(verdicts.worst.sum()), n),
            vote_interval=wilson(int(verdicts.vote.sum()), n),
            grad_evals=grad_evals,
            seconds=seconds,
        )

    def record(self) -> dict[str, Any]:
        """The row as files hold it."""
        values = asdict(self)
        return {**values.pop("cell"), **values}


def rows_of(tables: Mapping[Cell, pa.Table]) -> list[AdaptiveRow]:
    """A row for each cell, of one target and defence, then the least over the attacks of each budget."""
    rows = [
        AdaptiveRow.of(
            cell,
            Verdicts.of(table),
            grad_evals=float(np.mean(table["grad_evals"].to_numpy())) * cell.eot,
            seconds=float(np.mean(table["seconds"].to_numpy())),
        )
        for cell, table in tables.items()
    ]
    attacks = [row for row in rows if row.cell.attack not in CONTROLS]
    for eps in dict.fromkeys(row.cell.eps for row in attacks):
        rows.append(_least_row([row for row in attacks if row.cell.eps == eps], tables))
    return rows


def _least_row(rows: Sequence[AdaptiveRow], tables: Mapping[Cell, pa.Table]) -> AdaptiveRow:
    """The least over some attacks, per image; costs are sums."""
    least = Verdicts.of(tables[rows[0].cell])
    for row in rows[1:]:
        least = least.least(Verdicts.of(tables[row.cell]))
    cell = Cell(**{**asdict(rows[0].cell), "attack": ALL, "knowledge": "full"})
    return AdaptiveRow.of(
        cell,
        least,
        grad_evals=sum(row.grad_evals for row in rows),
        seconds=sum(row.seconds for row in rows),
    )


def mcnemar(first_only: int, second_only: int) -> float:
    """Exact two-sided p-value of McNemar's test (1947): equal chances of the two kinds of disagreement.

    Args:
        first_only: Images that the first is right on, and the second wrong.
        second_only: The other way round.
    """
    disagreements = first_only + second_only
    fewer = sum(comb(disagreements, count) for count in range(min(first_only, second_only) + 1))
    return min(1.0, float(2 * fewer / 2**disagreements))
