"""A picture of a table of the page: accuracies alone, no photograph."""

from collections.abc import Sequence
from pathlib import Path

from impure.purifier.evaluation.figures.accuracy_bars import Bar, accuracy_bars
from impure.purifier.evaluation.figures.plot_style import svg
from impure.purifier.evaluation.scores import wilson

Cell = tuple[str, str, int, int]
"""A defence's label, an attack, how many images were right, of how many."""


def write_chart(cells: Sequence[Cell], title: str, page: Path, name: str) -> str:
    """Write a picture beside the page, in the order of the cells' labels; returns the line that shows it."""
    bars = [Bar(attack, label, correct / n, *wilson(correct, n)) for label, attack, correct, n in cells]
    path = page.with_name(f"{page.stem}-{name}.svg")
    path.write_text(svg(accuracy_bars(bars, title)))
    return f"![{title}]({path.name})"
