"""Text for people: tables, valid Markdown too, and what strangers wrote made harmless for a terminal."""

import re
from collections.abc import Sequence

_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with U+FFFD for all that would steer a terminal, line breaks too, or that is no Unicode."""
    return _STEERING.sub("\N{REPLACEMENT CHARACTER}", text)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Render rows under a header; the first column is left-aligned, the others are numbers."""
    cells = [[printable(str(cell)) for cell in row] for row in (header, *rows)]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(header))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [
        [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        for row in cells
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


def fitted_table(
    header: Sequence[str], rows: Sequence[Sequence[object]], width: int, *, repeated: int = 1
) -> str:
    """`markdown_table` for a terminal, in pieces below each other where it is too wide.

    Args:
        header: Names of the columns.
        rows: Their cells.
        width: Characters in a line, as far as a single column leaves them.
        repeated: The first columns, which stand in every piece.
    """

    def piece(columns: Sequence[int]) -> str:
        cells = [[row[column] for column in columns] for row in rows]
        return markdown_table([header[column] for column in columns], cells)

    first = list(range(repeated))
    pieces = [first]
    for column in range(repeated, len(header)):
        wider = [*pieces[-1], column]
        fits = pieces[-1] == first or piece(wider).index("\n") <= width
        pieces[-1:] = [wider] if fits else [pieces[-1], [*first, column]]
    return "\n\n".join(map(piece, pieces))
