"""Accuracies as bars: a group for each attack, in it a bar for each defence, with intervals."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from impure.purifier.evaluation.figures.plot_style import INK, colour, figure
from impure.purifier.evaluation.scores import Row

GROUP_WIDTH = 0.8  # of the distance between two groups
_LEAST_WIDTH, _INCHES_A_BAR, _LEGEND_LINE = 7.0, 0.14, 0.2


class Bar(NamedTuple):
    """One accuracy of an attack, with its interval; all from 0 to 1."""

    attack: str
    label: str
    accuracy: float
    low: float
    high: float


def bars_of(rows: Sequence[Row], target: str) -> list[Bar]:
    """A target's rows as bars, with Wilson's intervals."""
    return [Bar(row.attack, row.label, row.accuracy, *row.interval) for row in rows if row.target == target]


def accuracy_bars(bars: Sequence[Bar], title: str) -> Figure:
    """Draw bars from 0 to 100 per cent.

    Args:
        bars: At least one; attacks and labels stand in the order of their first bars.
        title: Above the plot.
    """
    attacks = list(dict.fromkeys(bar.attack for bar in bars))
    labels = list(dict.fromkeys(bar.label for bar in bars))
    width = max(_LEAST_WIDTH, _INCHES_A_BAR * len(bars))
    columns = _legend_columns(labels, width)
    drawn = figure(width, 3 + _LEGEND_LINE * -(-len(labels) // columns))
    axes = drawn.subplots()
    for place, label in enumerate(labels):
        of_label = [bar for bar in bars if bar.label == label]
        offset = GROUP_WIDTH * ((place + 0.5) / len(labels) - 0.5)
        axes.bar(
            [attacks.index(bar.attack) + offset for bar in of_label],
            [100 * bar.accuracy for bar in of_label],
            width=GROUP_WIDTH / len(labels),
            color=colour(place),
            label=label,
            yerr=[
                [100 * (bar.accuracy - bar.low) for bar in of_label],
                [100 * (bar.high - bar.accuracy) for bar in of_label],
            ],
            error_kw={"ecolor": INK, "elinewidth": 1},
        )
    axes.set_xticks(range(len(attacks)), attacks, rotation=0 if len(attacks) < 6 else 25)
    axes.set_ylim(0, 100)
    axes.set_ylabel("accuracy, %")
    axes.set_axisbelow(True)
    axes.grid(axis="y", color=INK, alpha=0.25)
    axes.set_title(title, fontsize=10)
    legend = drawn.legend(loc="outside lower center", ncols=columns, fontsize=9)
    for text in legend.get_texts():
        text.set_parse_math(False)  # labels may be a stranger's, and a $ is no formula
    return drawn


def _legend_columns(labels: Sequence[str], width: float) -> int:
    """How many labels fit side by side below a plot of so many inches."""
    return max(1, min(len(labels), int(13 * width / (max(map(len, labels)) + 6))))
