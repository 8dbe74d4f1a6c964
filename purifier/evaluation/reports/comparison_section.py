"""Defences on the same images, as a section of a page: how often one alone is right, and on which images."""

from collections.abc import Mapping, Sequence
from typing import Any

from impure.manifests.collection.shard_id import stem_of
from impure.purifier.evaluation.paired import p_text
from impure.purifier.evaluation.reports.documents import NAME, Document, as_text, count_of, number, records_of
from impure.purifier.evaluation.reports.page import Block, Cell, Section, Table
from impure.purifier.evaluation.reports.plain_table import plain_table

HEADER = ("attack", "n", "A, %", "B, %", "B − A, points", "p", "both", "only A", "only B", "neither")

Record = Mapping[str, Any]
Compared = tuple[str, str, str]
"""Target, first and second defence."""


def comparison_section(document: Document, title: str) -> Section:
    """A block for each two defences before each target.

    Raises:
        InputError: The document is not what it has to be.
    """
    differing = _grouped(records_of(document.content, "differing"))
    blocks = [
        _block(compared, rows, differing.get(compared, []))
        for compared, rows in _grouped(records_of(document.content, "rows")).items()
    ]
    return Section(title=title, blocks=blocks, conditions={})


def _grouped(records: Sequence[Record]) -> dict[Compared, list[Record]]:
    """Records by what they compare."""
    groups: dict[Compared, list[Record]] = {}
    for record in records:
        target, first, second = (as_text(record.get(name), NAME) for name in ("target", "first", "second"))
        groups.setdefault((target, first, second), []).append(record)
    return groups


def _block(compared: Compared, rows: Sequence[Record], differing: Sequence[Record]) -> Block:
    """Two defences before one target."""
    target, first, second = compared
    counts = Table(
        caption=f"{first} and {second} on the same images",
        header=HEADER,
        rows=[_line(row) for row in rows],
    )
    named = (
        [plain_table([_image(record) for record in differing], _ON_WHICH, folded=True)] if differing else []
    )
    return Block(title=f"A: {first}, B: {second}, before {target}", tables=[counts, *named])


_ON_WHICH = "Images that one alone gets right"


def _line(row: Record) -> list[Cell]:
    """An attack's line."""
    n, both, one, other, neither = (
        count_of(row, name) for name in ("n", "both", "only_first", "only_second", "neither")
    )
    return [
        Cell(as_text(row.get("attack"), NAME)),
        _count(n),
        _share(both + one, n),
        _share(both + other, n),
        _difference(row),
        _p(number(row, "p")),
        *map(_count, (both, one, other, neither)),
    ]


def _count(count: int) -> Cell:
    return Cell(str(count), sort=count)


def _share(count: int, n: int) -> Cell:
    """A share in per cent."""
    return Cell(f"{100 * (count / n):.1f}", sort=count / n) if n else Cell("–")


def _difference(row: Record) -> Cell:
    """B's accuracy less A's in points, with its interval."""
    difference, low, high = (number(row, name) for name in ("difference", "low", "high"))
    if difference is None or low is None or high is None:
        return Cell("–")
    return Cell(f"{100 * difference:+.1f}", f"{100 * low:+.1f} to {100 * high:+.1f}", difference)


def _p(p: float | None) -> Cell:
    return Cell("–") if p is None else Cell(p_text(p), sort=p)


def _image(record: Record) -> Record:
    """An image of which one alone is right, as a line of a table."""
    return {
        "attack": record.get("attack"),
        "image": stem_of(as_text(record.get("key"), NAME)),
        "class": record.get("class"),
        "right": "A" if record.get("right") == record.get("first") else "B",
        "behind A": record.get("first_class"),
        "behind B": record.get("second_class"),
    }
