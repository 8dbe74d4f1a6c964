"""Defences in rows, attacks in columns: the layout of the paper's Tables 2 and 3."""

from collections import Counter
from collections.abc import Iterable

from impure.purifier.evaluation.measure import Evaluation
from impure.purifier.evaluation.reports.report_table import rows_by_attack
from impure.purifier.evaluation.scores import Row

Grid = tuple[list[str], list[list[str]]]
"""Header and lines of a table."""


def lines_of(evaluation: Evaluation, target: str) -> dict[str, list[Row]]:
    """A target's rows by defence, each in the order of the attacks."""
    lines: dict[str, list[Row]] = {}
    for row_of in rows_by_attack(evaluation, target).values():
        for label, row in row_of.items():
            lines.setdefault(label, []).append(row)
    return lines


def percent(accuracy: float | None) -> str:
    """An accuracy in per cent; a dash where there is none."""
    return "-" if accuracy is None else f"{100 * accuracy:.1f}"


def numbers_of_images(rows: Iterable[Row]) -> str:
    """How many images the figures are of: one number, or that of each attack where they differ."""
    of_attack = {(row.target, row.attack): row.n for row in rows}
    (most_frequent, times), *_ = Counter(of_attack.values()).most_common()
    if times == len(of_attack):
        return f"Each figure is of {most_frequent} images."
    return f"Numbers of images: {', '.join(f'{attack} {n}' for (_, attack), n in of_attack.items())}."
