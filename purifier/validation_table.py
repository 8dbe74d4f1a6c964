"""`validation.csv`: what a run's validations found, and which was the best."""

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from impure.manifests.collection import CLEAN
from impure.manifests.errors import InputError
from impure.manifests.store import atomic_path
from impure.purifier.scores import COLUMNS as ROW_COLUMNS
from impure.purifier.scores import Row

COLUMNS = ("epoch", *ROW_COLUMNS[:8])  # each row is of one draw
NONE, PURIFIER = "none", "riae"  # in the column `defence`

Cell = tuple[str, str, int]  # target, attack, number of images


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
            found = ", ".join(sorted(attacks)) or "none"
            raise InputError(f"a validation needs clean and attacked images; there are rows of {found}")

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
        """Mean accuracy over all rows: every target and attack, and clean, with equal weight."""
        return _mean(self.rows)

    def better_than(self, other: "Score | None") -> bool:
        """Whether `overall` is higher: a tie leaves the earlier one in place. Anything is better than None.

        Raises:
            InputError: The other was measured on other targets, attacks or numbers of images.
        """
        if other is None:
            return True
        if _cells(self.rows) != _cells(other.rows):
            raise InputError("these validations are of different targets, attacks or numbers of images")
        return self.overall > other.overall


def _mean(rows: Iterable[Row]) -> float:
    """Unweighted mean accuracy."""
    found = [row.accuracy for row in rows]
    return math.fsum(found) / len(found)


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
        self._found: dict[tuple[int, str], tuple[Row, ...]] = dict(_read(path)) if path.exists() else {}
        wanted = sorted(cells)
        if any(_cells(rows) != wanted for rows in self._found.values()):
            raise InputError(
                f"{path}: its rows are of other targets, attacks or numbers of images; validate on the same "
                "images, or choose another folder"
            )

    def put(self, epoch: int, defence: str, rows: Sequence[Row]) -> None:
        """Add the rows of an epoch, or replace them.

        Raises:
            InputError: The file cannot be written.
        """
        self._found[epoch, defence] = tuple(rows)
        self._write()

    def forget_after(self, epoch: int) -> None:
        """Drop the purifier's rows of later epochs.

        Raises:
            InputError: The file cannot be written.
        """
        late = [key for key in self._found if key[0] > epoch]
        for key in late:
            del self._found[key]
        if late:
            self._write()

    def best(self) -> tuple[int, Score] | None:
        """The epoch with the best purifier, the earliest of equals; None where there is none."""
        found: tuple[int, Score] | None = None
        for (epoch, defence), rows in sorted(self._found.items()):
            score = Score(rows=rows)
            if defence == PURIFIER and score.better_than(found and found[1]):
                found = epoch, score
        return found

    def _write(self) -> None:
        """Write all rows."""
        try:
            with atomic_path(self._path) as temporary, temporary.open("w", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
                writer.writeheader()
                for (epoch, _), rows in sorted(self._found.items()):
                    writer.writerows({"epoch": epoch, **row.record()} for row in rows)
        except OSError as error:
            raise InputError(f"{self._path}: cannot be written ({error})") from error


def _read(path: Path) -> Iterator[tuple[tuple[int, str], tuple[Row, ...]]]:
    """The rows of a file by epoch and defence, in its order."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            found = [_row(line) for line in csv.DictReader(file)]
    except (OSError, KeyError, TypeError, ValueError, csv.Error, InputError) as error:
        raise InputError(f"{path}: not a readable validation table ({error!r}); remove it") from error
    for key, rows in groupby(found, key=lambda each: (each[0], each[1].defence)):
        yield key, tuple(row for _, row in rows)


def _row(line: dict[str, str]) -> tuple[int, Row]:
    """A line of the file as epoch and row."""
    row = Row(
        target=line["target"],
        attack=line["attack"],
        defence=line["defence"],
        n=int(line["n"]),
        correct=int(line["correct"]),
    )
    return int(line["epoch"]), row
