"""Any evaluation's document as a section of a page."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from impure.manifests.base.canonical_json import canonical_json
from impure.manifests.base.errors import InputError
from impure.purifier.evaluation.measure import Evaluation
from impure.purifier.evaluation.reports.accuracy_section import accuracy_section
from impure.purifier.evaluation.reports.adaptive_section import adaptive_section
from impure.purifier.evaluation.reports.attached_images import attached_images
from impure.purifier.evaluation.reports.documents import (
    KINDS,
    NAME,
    Document,
    as_text,
    count_of,
    number,
    records_of,
)
from impure.purifier.evaluation.reports.page import Block, Cell, Section, Table
from impure.purifier.evaluation.scores import Row

MAX_COLUMNS = 60
_ACCURACY = {"target", "attack", "defence", "n", "correct"}

Record = Mapping[str, Any]


def document_section(document: Document) -> tuple[Section, list[str]]:
    """The section, with a line for each image beside the document that is refused.

    Raises:
        InputError: The document is not what it has to be.
    """
    plots, complaints = attached_images(document.path)
    section = _section(document)
    section = replace(section, plots=plots, conditions=document.conditions, where=document.where)
    folder = document.where.rpartition("/")[0]
    return section, [f"{folder}/{complaint}" for complaint in complaints]


def _section(document: Document) -> Section:
    """The section without what lies beside the document."""
    title = KINDS[document.kind]
    if document.kind == "adaptive":
        return adaptive_section(document, title)
    rows = records_of(document.content, "rows")
    if is_accuracy(rows):
        return accuracy_section(
            _evaluation(rows),
            title,
            document.content,
            images=document.conditions.get("images", "stored images"),
        )
    return Section(title=title, blocks=_plain_blocks(rows), conditions={})


def is_accuracy(rows: Sequence[Record]) -> bool:
    """Whether rows are those of Table 1."""
    return bool(rows) and all(_ACCURACY <= set(row) for row in rows)


def _evaluation(rows: Sequence[Record]) -> Evaluation:
    """Rows of Table 1 as they were measured.

    Raises:
        InputError: A row is impossible, or there are too many defences for a table.
    """
    evaluation = Evaluation(rows=tuple(read_row(row) for row in rows), examples=(), conditions={})
    if len({row.label for row in evaluation.rows}) > MAX_COLUMNS:
        raise InputError(f"it has more than {MAX_COLUMNS} defences")
    return evaluation


def read_row(record: Record) -> Row:
    """One row of Table 1 from a file.

    Raises:
        InputError: It has a value of another type, or impossible counts.
    """
    return Row(
        target=as_text(record.get("target"), NAME),
        attack=as_text(record.get("attack"), NAME),
        defence=as_text(record.get("defence"), NAME),
        n=count_of(record, "n"),
        correct=count_of(record, "correct"),
        combine=as_text(record.get("combine", "one"), NAME),
        samples=count_of({"samples": 1, **record}, "samples"),
        rejected=count_of(record, "rejected") if record.get("rejected") is not None else None,
    )


def _plain_blocks(rows: Sequence[Record]) -> list[Block]:
    """Any records as a table; what is the same in all of them stands above it once.

    Raises:
        InputError: They have too many columns.
    """
    if not rows:
        return []
    names = list(dict.fromkeys(name for row in rows for name in row))
    if len(names) > MAX_COLUMNS:
        raise InputError(f"its rows have more than {MAX_COLUMNS} columns")
    same = [
        name for name in names if len(rows) > 1 and len({canonical_json(row.get(name)) for row in rows}) == 1
    ]
    header = [name for name in names if name not in same]
    table = Table(
        caption="The document's rows",
        header=[as_text(name.replace("_", " "), NAME) for name in header],
        rows=[
            [Cell(as_text(row.get(name), NAME), sort=number(row, name)) for name in header] for row in rows
        ],
    )
    shown = [
        Table(caption="The same in every row", header=["in every row", "value"], rows=_facts(rows[0], same))
    ]
    return [Block(tables=[*([table] if header else []), *(shown if same else [])])]


def _facts(row: Record, names: Sequence[str]) -> list[list[Cell]]:
    """A line for each of some values."""
    return [
        [Cell(as_text(name.replace("_", " "), NAME)), Cell(as_text(row.get(name), NAME))] for name in names
    ]
