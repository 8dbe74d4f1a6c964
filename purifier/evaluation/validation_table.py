"""`validation.csv`: the scores of a run's validations, and which was the best."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from impure.manifests.base.errors import InputError
from impure.manifests.base.files import atomic_path, writing
from impure.manifests.collection.shard_id import CLEAN
from impure.purifier.evaluation.scores import COLUMNS as ROW_COLUMNS
from impure.purifier.evaluation.scores import Row

FILE = "validation.csv"
COLUMNS = ("epoch", *ROW_COLUMNS[:8])  # each row is of one sample
READ = COLUMNS[:6]  # the counts tell the accuracy once more
NONE = "none"  # in the column `defence`: the bare classifier; another name is that of the trained defence

ADAPTIVE = "adaptive-"  # begins the names of attacks that go through the defence as it is in that epoch

Cell = tuple[str, str, int]  # target, attack, number of images
RowsByEpoch = Mapping[tuple[int, str], tuple[Row, ...]]  # by epoch and defence


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How good a purifier is: one row for each target and attack, `clean` among them.

    Raises:
        InputError: There is no row of an attack, or none of `clean`.
    """

    rows: tuple[Row, ...]

    def __post_init__(self) -> None:
        attacks = {row.attack for row in self.rows}
        if CLEAN not in attacks or attacks == {CLEAN}:
            present = ", ".join(sorted(attacks)) or "none"
            raise InputError(f"a validation needs clean and attacked images; there are rows of {present}")

    @property
    def attacked(self) -> float:
        """Mean accuracy over targets and attacks, without clean."""
        return _mean(row for row in self.rows if row.attack != CLEAN)

    @property
    def clean(self) -> float:
        """Mean accuracy over the targets on clean images."""
        return _mean(row for row in self.rows if row.attack == CLEAN)

    @property
    def overall(self) -> float:
        """What epochs are compared by: mean accuracy over all rows, clean among them, with equal weight.

        Where attacks went through the defence, over these alone: no other says more.
        """
        return _mean([row for row in self.rows if row.attack.startswith(ADAPTIVE)] or self.rows)

    def at_least(self, other: "Score | None") -> bool:
        """Whether `overall` is as high or higher; anything is as good as None.

        Of equals a run keeps the later one: it has learnt for longer, and some hundred images see no more.

        Raises:
            InputError: The other was measured on other targets, attacks or numbers of images.
        """
        if other is None:
            return True
        if _cells(self.rows) != _cells(other.rows):
            raise InputError("these validations are of different targets, attacks or numbers of images")
        return self.overall >= other.overall


def _mean(rows: Iterable[Row]) -> float:
    """Unweighted mean accuracy."""
    accuracies = [row.accuracy for row in rows]
    return math.fsum(accuracies) / len(accuracies)


def _cells(rows: Iterable[Row]) -> list[Cell]:
    """What was measured on."""
    return sorted((row.target, row.attack, row.n) for row in rows)


class ValidationTable:
    """The rows of `validation.csv` by epoch and defence; the file is replaced as a whole."""

    def __init__(self, path: Path, cells: Iterable[Cell]) -> None:
        """Read what an earlier part of the run wrote, if it did.

        Args:
            path: The file.
            cells: What is measured now.

        Raises:
            InputError: The file is damaged, or its rows are of other cells.
        """
        self._path = path
        self._rows: dict[tuple[int, str], tuple[Row, ...]] = dict(read_rows(path)) if path.exists() else {}
        wanted = sorted(cells)
        if any(_cells(rows) != wanted for rows in self._rows.values()):
            raise InputError(
                f"{path}: its rows are of other targets, attacks or numbers of images; validate on the same "
                "images, or choose another folder"
            )

    def put(self, epoch: int, defence: str, rows: Sequence[Row]) -> None:
        """Add the rows of an epoch, or replace them.

        Raises:
            WriteError: The file cannot be written.
        """
        self._rows[epoch, defence] = tuple(rows)
        self._write()

    def forget_after(self, epoch: int) -> None:
        """Drop the purifier's rows of later epochs.

        Raises:
            WriteError: The file cannot be written.
        """
        late = [key for key in self._rows if key[0] > epoch]
        for key in late:
            del self._rows[key]
        if late:
            self._write()

    def best(self) -> tuple[int, Score] | None:
        """The epoch with the best purifier, the latest of equals; None where there is none."""
        return best(self._rows)

    def _write(self) -> None:
        """Write all rows."""
        path = self._path
        with writing(path), atomic_path(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
            writer.writeheader()
            for (epoch, _), rows in sorted(self._rows.items()):
                writer.writerows({"epoch": epoch, **row.record()} for row in rows)


def best(rows_by_epoch: RowsByEpoch) -> tuple[int, Score] | None:
    """The epoch with the best purifier, the latest of equals; None where there is none.

    Raises:
        InputError: Epochs were measured on different targets, attacks or numbers of images, or one without
            clean or without attacked images.
    """
    chosen: tuple[int, Score] | None = None
    for epoch in sorted(epoch for epoch, defence in rows_by_epoch if defence != NONE):
        score = Score(rows=trained_rows(rows_by_epoch, epoch))
        if score.at_least(chosen and chosen[1]):
            chosen = epoch, score
    return chosen


def trained_rows(rows_by_epoch: RowsByEpoch, epoch: int) -> tuple[Row, ...]:
    """The rows of the trained defence in an epoch."""
    return next(rows for (at, defence), rows in rows_by_epoch.items() if at == epoch and defence != NONE)


def read_rows(path: Path) -> RowsByEpoch:
    """Read `validation.csv`, in its order.

    Raises:
        InputError: It cannot be read, lacks a column, or a row makes no sense.
    """
    rows_by_epoch: dict[tuple[int, str], tuple[Row, ...]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            if missing := set(READ) - set(reader.fieldnames or ()):
                raise InputError(f"it has no column {', '.join(sorted(missing))}")
            for line in reader:
                epoch, row = _row(line, reader.line_num)
                rows_by_epoch[epoch, row.defence] = (*rows_by_epoch.get((epoch, row.defence), ()), row)
    except (OSError, ValueError, csv.Error, InputError) as error:
        raise InputError(f"{path}: not a readable validation table ({error}); remove it") from error
    return rows_by_epoch


def _row(line: Mapping[str, str | None], number: int) -> tuple[int, Row]:
    """A line of the file as epoch and row."""
    try:
        epoch, n, correct = (int(line[name] or "") for name in ("epoch", "n", "correct"))
        target, attack, defence = (line[name] or "" for name in ("target", "attack", "defence"))
        return epoch, Row(target=target, attack=attack, defence=defence, n=n, correct=correct)
    except (ValueError, InputError) as error:
        raise InputError(f"line {number}: {error}") from error
