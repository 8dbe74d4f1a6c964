"""Any evaluation's document as a section of a page."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from impure.manifests.base.errors import InputError
from impure.purifier.evaluation.measure import Evaluation
from impure.purifier.evaluation.reports.accuracy_section import accuracy_section
from impure.purifier.evaluation.reports.adaptive_section import adaptive_section
from impure.purifier.evaluation.reports.attached_images import attached_images
from impure.purifier.evaluation.reports.comparison_section import comparison_section
from impure.purifier.evaluation.reports.documents import (
    KINDS,
    MAX_TEXT,
    NAME,
    TABLES,
    Document,
    as_text,
    count_of,
    records_of,
)
from impure.purifier.evaluation.reports.page import Block, Section, Table
from impure.purifier.evaluation.reports.plain_table import MAX_COLUMNS, plain_table
from impure.purifier.evaluation.scores import Row

MAX_NOTES = 20
MAX_LINES = 5000  # of Table 1
_SHOWN = ("rows", "notes")
_BY_CLASS = ("classes", "confusions")
_SAME_ROWS = ("fig7", "fig8")  # of purifiers that differ in one field

Record = Mapping[str, Any]


def document_section(document: Document) -> tuple[Section, list[str]]:
    """The section, with a line for each image beside the document that is refused.

    Plots beside an accuracy take the place of our bars; those beside an adaptive evaluation are curves.

    Raises:
        InputError: The document is not what it has to be.
    """
    plots, complaints = attached_images(document.path)
    told = _notes(document)
    section = _section(document)
    if any(plot.uri.startswith("data:image/svg") for plot in plots) and document.kind != "adaptive":
        section = replace(section, blocks=[replace(block, bars=None) for block in section.blocks])
    section = replace(
        section,
        lead="" if told else section.lead,
        notes=told or section.notes,
        plots=plots,
        conditions=document.conditions,
        where=document.where,
    )
    folder = document.where.rpartition("/")[0]
    return section, [f"{folder}/{complaint}" for complaint in complaints]


def _notes(document: Document) -> list[str]:
    """What the document says of its numbers."""
    told = document.content.get("notes", [])
    return [as_text(note, MAX_TEXT) for note in told[:MAX_NOTES]] if isinstance(told, list) else []


def _section(document: Document) -> Section:
    """The section without what lies beside the document."""
    title, content = KINDS[document.kind], document.content
    if document.kind == "adaptive":
        return adaptive_section(document, title)
    if document.kind == "compare":
        return comparison_section(document, title)
    rows = records_of(content, "rows")
    if document.kind not in (*TABLES, *_SAME_ROWS):
        tables = [plain_table(rows, "Rows")] if rows else []
        blocks = [Block(tables=[*tables, *_further(document, _SHOWN)])]
        return Section(title=title, blocks=blocks, conditions={})
    images = document.conditions.get("images", "stored images")
    turned = document.kind in ("table2", "table3")
    section = accuracy_section(_evaluation(rows), title, content, images=images, line_a_defence=turned)
    hidden = {*_SHOWN, *_BY_CLASS, *(() if document.kind == "table3" else ("means",))}
    return replace(section, blocks=[*section.blocks, Block(tables=_further(document, hidden))])


def _further(document: Document, shown: Collection[str]) -> list[Table]:
    """A document's other lists of records, folded."""
    names = [name for name in document.content if name not in shown]
    lists = {name: document.content[name] for name in names if isinstance(document.content[name], list)}
    return [
        plain_table(rows, as_text(name.replace("_", " ").capitalize(), NAME), folded=True)
        for name, rows in lists.items()
        if rows and all(isinstance(row, dict) for row in rows)
    ]


def _evaluation(rows: Sequence[Record]) -> Evaluation:
    """Rows of Table 1 as they were measured.

    Raises:
        InputError: A row is impossible, or there are too many defences for a table.
    """
    evaluation = Evaluation(rows=tuple(read_row(row) for row in rows), examples=(), conditions={})
    if len(rows) > MAX_LINES or len({row.label for row in evaluation.rows}) > MAX_COLUMNS:
        raise InputError(f"it has more than {MAX_LINES} rows or {MAX_COLUMNS} defences")
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
