"""Accuracy under adaptive attack: mean, worst and vote of draws, and the least over attacks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from impure.purifier.evaluation.adaptive.adaptive_config import CLEAN, NOISE, AdaptiveConfig, Cell
from impure.purifier.evaluation.adaptive.cell_results import correctness
from impure.purifier.evaluation.adaptive.cells import Subject, half_of, is_attack, table_cells
from impure.purifier.evaluation.adaptive.pass_cost import Costs
from impure.purifier.evaluation.predict import NO_CLASS
from impure.purifier.evaluation.scores import Z_95, wilson

ALL = "all attacks"  # per image the least over the attacks of one budget
POINT = 0.01

Tables = Mapping[Cell, pa.Table]
"""The rows of each cell, an image each."""


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
    def of(cls, table: pa.Table, samples: int | None = None) -> "Verdicts":
        """Those of a cell's rows; by its first draws alone, where a number is given."""
        predictions, labels = correctness(table)
        predictions = predictions[:, :samples]
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

    def is_level_with(self, other: "Verdicts") -> bool:
        """Whether the mean of draws differs by no more than a point or an image, beyond chance.

        Chance is the 95 % interval of the mean of the images' differences.
        """
        differences = self.share - other.share
        n = len(differences)
        chance = Z_95 * differences.std(ddof=1) / n**0.5 if n > 1 else 0.0
        return bool(abs(differences.mean()) <= max(POINT, 1 / n, chance) + 1e-9)


def _most(predictions: NDArray[np.int64]) -> int:
    """The class seen most often."""
    classes, counts = np.unique(predictions, return_counts=True)
    return int(classes[counts.argmax()]) if len(classes) else NO_CLASS


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Accuracy under the three verdicts, of the same images and draws.

    Attributes:
        n: Images.
        mean: Share of right predictions over images and draws.
        worst: Share of images right in every draw.
        vote: Share of images whose majority of draws is right.
    """

    n: int
    mean: float
    worst: float
    vote: float

    @classmethod
    def of(cls, verdicts: Verdicts) -> "Accuracy":
        """That of some verdicts."""
        return cls(
            n=len(verdicts.share),
            mean=float(verdicts.share.mean()),
            worst=float(verdicts.worst.mean()),
            vote=float(verdicts.vote.mean()),
        )

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """Wilson's 95 % interval of each, as if each image were right or wrong."""
        rates = {"mean": self.mean, "worst": self.worst, "vote": self.vote}
        return {verdict: wilson(round(rate * self.n), self.n) for verdict, rate in rates.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveRow:
    """A row of the table.

    Attributes:
        cell: The attack; with `attack` "all attacks" the least of them per image.
        samples: Draws of the verdict.
        accuracy: Under the attack.
        clean: Of the untouched images, under the same verdict.
        noise: Behind random signs of the attack's size, under the same verdict; None of clean images.
        converged: Whether half the steps leave the same accuracy; None where there are no steps to halve.
        grad_evals: Gradients taken of an image, counting each draw.
        passes: Forward passes of an image, those of gradients among them.
        flop: Floating-point operations of the attack on an image.
        seconds: Of the attack on an image.
    """

    cell: Cell
    samples: int
    accuracy: Accuracy
    clean: Accuracy
    noise: Accuracy | None
    converged: bool | None
    grad_evals: float
    passes: float
    flop: float
    seconds: float


def rows_of(config: AdaptiveConfig, subject: Subject, tables: Tables, flop: Costs) -> list[AdaptiveRow]:
    """A row for each cell of the table and number of draws, then the least over each budget's attacks.

    Args:
        config: The evaluation.
        subject: What was attacked.
        tables: The rows of all its cells.
        flop: Of a pass.
    """
    cells = table_cells(config, subject)
    rows = []
    for samples in sorted(set(config.samples)) if subject.is_random else [1]:
        accuracies = {cell: Accuracy.of(Verdicts.of(tables[cell], samples)) for cell in cells}
        of_samples = [_row(config, cell, accuracies, tables, samples, flop) for cell in cells]
        rows += of_samples + [_least_row(of_samples, eps, tables) for eps in config.eps]
    return rows


def _row(
    config: AdaptiveConfig,
    cell: Cell,
    accuracies: Mapping[Cell, Accuracy],
    tables: Tables,
    samples: int,
    flop: Costs,
) -> AdaptiveRow:
    """The row of one cell, beside the controls among all cells."""
    controls = {(other.attack, other.eps): accuracies[other] for other in accuracies if not is_attack(other)}
    table, half = tables[cell], half_of(cell, config)
    grad_evals = float(np.mean(table["grad_evals"].to_numpy())) * cell.eot
    passes = float(np.mean(table["passes"].to_numpy()))
    return AdaptiveRow(
        cell=cell,
        samples=samples,
        accuracy=accuracies[cell],
        clean=controls[CLEAN, 0],
        noise=controls.get((NOISE, cell.eps)),
        converged=is_level(config, table, tables[half]) if half else None,
        grad_evals=grad_evals,
        passes=passes,
        flop=flop.of(cell, passes, grad_evals),
        seconds=float(np.mean(table["seconds"].to_numpy())),
    )


def is_level(config: AdaptiveConfig, one: pa.Table, other: pa.Table) -> bool:
    """Whether two efforts leave the same accuracy of the first images (see `Verdicts.is_level_with`)."""
    first, second = (probe_verdicts(config, table) for table in (one, other))
    return first.is_level_with(second)


def probe_verdicts(config: AdaptiveConfig, table: pa.Table) -> Verdicts:
    """Those of the images and draws that all cells share."""
    return Verdicts.of(table, min(config.samples)).first(config.probe)


def _least_row(rows: Sequence[AdaptiveRow], eps: int, tables: Tables) -> AdaptiveRow:
    """The least over the attacks of one budget, per image; costs are sums."""
    attacks = [row for row in rows if row.cell.eps == eps and is_attack(row.cell)]
    samples = attacks[0].samples
    least = Verdicts.of(tables[attacks[0].cell], samples)
    for row in attacks[1:]:
        least = least.least(Verdicts.of(tables[row.cell], samples))
    converged = [row.converged for row in attacks if row.converged is not None]
    return replace(
        attacks[0],
        cell=replace(attacks[0].cell, attack=ALL, knowledge="full", steps=0),  # each has its own
        accuracy=Accuracy.of(least),
        converged=all(converged) if converged else None,
        grad_evals=sum(row.grad_evals for row in attacks),
        passes=sum(row.passes for row in attacks),
        flop=sum(row.flop for row in attacks),
        seconds=sum(row.seconds for row in attacks),
    )
