"""Results of queries as text for people, as JSON and as CSV."""

import csv
import io
import json
import math
from decimal import Decimal
from typing import Any

import pyarrow as pa

from impure.manifests.base.tables import markdown_table, printable

MAX_ROWS = 50  # that people are shown
MAX_WIDTH = 100  # characters of a cell that people are shown: a hash fits


def records(table: pa.Table) -> list[dict[str, Any]]:
    """Rows as JSON can hold them: dates and the like as text, bytes in hex, NaN and infinity as null."""
    return [{name: _plain(value) for name, value in row.items()} for row in table.to_pylist()]


def as_csv(table: pa.Table) -> str:
    """Rows as CSV under a header: RFC 4180's quoting, line feeds; null is empty, lists are JSON."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.column_names)
    writer.writerows([_cell(value) for value in row.values()] for row in records(table))
    return out.getvalue()


def as_text(table: pa.Table, shown: int = MAX_ROWS) -> str:
    """Rows as a table for people, at most `shown` of them; says what was left out or cut."""
    cells = [[_text(value) for value in row.values()] for row in records(table.slice(0, shown))]
    rows = [[_printable(text) for text in row] for row in cells]
    lines = [markdown_table([_printable(name) for name in table.column_names], rows)]
    if table.num_rows > shown:
        lines.append(f"… and {table.num_rows - shown} more rows; --csv and --json print them all.")
    if any(len(text) > MAX_WIDTH for row in cells for text in row):
        lines.append(f"Cells are cut at {MAX_WIDTH} characters; --csv and --json print them whole.")
    if not table.num_rows:
        lines.append("0 rows")
    return "\n".join(lines)


def _plain(value: Any) -> Any:
    """A value out of Arrow as JSON can hold it."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Decimal):  # what DuckDB makes of a sum of whole numbers
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value)


def _cell(value: Any) -> Any:
    """A value in one cell."""
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, (bool, dict, list)) else value


def _text(value: Any) -> str:
    """A cell for people."""
    return f"{value:.6g}" if isinstance(value, float) else str(_cell(value))


def _printable(text: str) -> str:
    """A cell that can do a terminal and a Markdown table no harm, whoever wrote it."""
    text = text if len(text) <= MAX_WIDTH else text[: MAX_WIDTH - 1] + "…"
    return printable(text).replace("|", "\\|")
