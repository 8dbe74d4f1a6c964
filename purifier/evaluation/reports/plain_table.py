"""Any records of a document as a table of a page: for kinds that need no table of their own."""

from collections.abc import Mapping, Sequence
from typing import Any

from impure.manifests.base.canonical_json import canonical_json
from impure.manifests.base.errors import InputError
from impure.purifier.evaluation.reports.documents import NAME, as_text, number
from impure.purifier.evaluation.reports.page import Cell, Table

MAX_COLUMNS = 60
MAX_SHOWN = 1000
LONG = 50  # rows that are shown without being asked for
_INTERVAL = ("wilson95_low", "wilson95_high")  # of a record's accuracy

Record = Mapping[str, Any]


def plain_table(rows: Sequence[Record], caption: str, *, folded: bool = False) -> Table:
    """Records as a table of those values that differ, and below it what is the same in all of them.

    Args:
        rows: The records, at least one; of very many the first are shown.
        caption: What they are.
        folded: Whether they are shown on demand alone.

    Raises:
        InputError: They have too many columns.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    if len(names) > MAX_COLUMNS:
        raise InputError(f"its rows have more than {MAX_COLUMNS} columns")
    same = [name for name in names if _is_same(rows, name)]
    header = [name for name in names if name not in same and name not in _INTERVAL]
    if len(rows) > MAX_SHOWN:
        caption += f", the first {MAX_SHOWN} of {len(rows)}"
    return Table(
        caption=caption,
        header=[_heading(name) for name in header],
        rows=[[_cell(row, name) for name in header] for row in rows[:MAX_SHOWN]],
        folded=folded or len(rows) > LONG,
        note=_facts(rows[0], same),
    )


def _is_same(rows: Sequence[Record], name: str) -> bool:
    """Whether all of several records have the same value."""
    first = canonical_json(rows[0].get(name))
    return len(rows) > 1 and all(canonical_json(row.get(name)) == first for row in rows)


def _facts(row: Record, names: Sequence[str]) -> str:
    """What all records share, in a line."""
    facts = [f"{_heading(name)} {as_text(row.get(name), NAME)}" for name in names]
    return f"In every row: {', '.join(facts)}." if facts else ""


def _heading(name: str) -> str:
    """A column's name."""
    return "accuracy, %" if name == "accuracy" else as_text(name.replace("_", " "), NAME)


def _cell(row: Record, name: str) -> Cell:
    """A value; an accuracy in per cent, with its interval."""
    value = number(row, name)
    if name != "accuracy" or value is None:
        return Cell(as_text(row.get(name), NAME), sort=value)
    ends = [number(row, end) for end in _INTERVAL]
    interval = "–".join(f"{100 * end:.1f}" for end in ends if end is not None)
    return Cell(f"{100 * value:.1f}", interval, value)
