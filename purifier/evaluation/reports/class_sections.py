"""Accuracy of each class, and the confusions that remain, as folded tables of a page."""

from collections.abc import Mapping, Sequence
from typing import Any

from impure.purifier.evaluation.reports.documents import NAME, as_text, number, records_of
from impure.purifier.evaluation.reports.page import Cell, Table, per_cent

MAX_CLASSES = 1000  # shown

Record = Mapping[str, Any]


def class_tables_of(content: Record, target: str) -> list[Table]:
    """The tables of one target; none where the document has no such records.

    Args:
        content: A document with the lists `classes` and `confusions`, or without.
        target: Its name.

    Raises:
        InputError: They are no lists of objects, or too long.
    """
    classes = [record for record in records_of(content, "classes") if record.get("target") == target]
    confusions = [record for record in records_of(content, "confusions") if record.get("target") == target]
    tables = [_classes(classes, target)] if classes else []
    return [*tables, _confusions(confusions, target)] if confusions else tables


def _classes(records: Sequence[Record], target: str) -> Table:
    """A line for each class, a column for each defence before clean and before attacked images."""
    columns = list(dict.fromkeys((_name(record, "defence"), _name(record, "images")) for record in records))
    lines: dict[tuple[str, str], dict[tuple[str, str], Record]] = {}
    for record in records:
        column = (_name(record, "defence"), _name(record, "images"))
        line = lines.setdefault((_name(record, "label"), _name(record, "class")), {})  # names may be alike
        line[column] = record
    return Table(
        caption=f"Accuracy of each class before {target}",
        header=["class", *(f"{defence}: {images}" for defence, images in columns)],
        rows=[
            [Cell(name), *(_share(line.get(column, {})) for column in columns)]
            for (_, name), line in lines.items()
        ],
        folded=True,
    )


def _confusions(records: Sequence[Record], target: str) -> Table:
    """The most frequent wrong classes of attacked images."""
    return Table(
        caption=f"Confusions that remain under attack before {target}",
        header=["defence", "class", "taken for", "images", "of the class's"],
        rows=[
            [
                *(Cell(_name(record, name)) for name in ("defence", "class", "predicted_class")),
                Cell(as_text(record.get("count"), 20), sort=number(record, "count")),
                per_cent(number(record, "share"), ""),
            ]
            for record in records[:MAX_CLASSES]
        ],
        folded=True,
    )


def _share(record: Record) -> Cell:
    """A class's accuracy, with how many images it is of."""
    n = number(record, "n")
    return per_cent(number(record, "accuracy"), "" if n is None else f"of {n:.0f}")


def _name(record: Record, name: str) -> str:
    """A name in a record."""
    return as_text(record.get(name), NAME)
