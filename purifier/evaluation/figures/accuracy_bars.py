"""Accuracies as bars: a group for each attack, in it a bar for each defence; a line for each of many."""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from impure.manifests.collection.shard_id import CLEAN
from impure.purifier.evaluation.figures.plot_style import COLOURS, INK, colour, figure
from impure.purifier.evaluation.scores import Row

GROUP_WIDTH = 0.8  # of the distance between two groups
_LEAST_WIDTH, _INCHES_A_BAR, _LEGEND_LINE = 7.0, 0.14, 0.2
_LONGEST = 40  # characters of a label beside an axis


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

    Of more defences than there are colours the mean over the attacks is drawn, from the least to the most.

    Args:
        bars: At least one; attacks and labels stand in the order of their first bars.
        title: Above the plot.
    """
    attacks = list(dict.fromkeys(bar.attack for bar in bars))
    labels = list(dict.fromkeys(bar.label for bar in bars))
    if len(labels) > len(COLOURS):
        return _lines(bars, labels, title)
    width = max(_LEAST_WIDTH, _INCHES_A_BAR * len(bars))
    columns = _legend_columns(labels, width)
    drawn = figure(width, 3 + _LEGEND_LINE * -(-len(labels) // columns))
    axes = drawn.subplots()
    for place, label in enumerate(labels):
        of_label = [bar for bar in bars if bar.label == label]
        offset = GROUP_WIDTH * ((place + 0.5) / len(labels) - 0.5)
        middles = [attacks.index(bar.attack) + offset for bar in of_label]
        _draw_bars(axes, middles, of_label, GROUP_WIDTH / len(labels), colour(place))
    axes.set_xticks(range(len(attacks)), attacks, rotation=0 if len(attacks) < 6 else 25)
    axes.set_ylim(0, 100)
    axes.set_ylabel("accuracy, %")
    _add_title_and_grid(axes, title, "y")
    legend = drawn.legend(loc="outside lower center", ncols=columns, fontsize=9)
    _as_written(legend.get_texts())
    return drawn


def _draw_bars(axes: Axes, middles: Sequence[float], bars: Sequence[Bar], width: float, ink: str) -> None:
    """One defence's bars, with whiskers from the least to the most of each interval."""
    axes.bar(
        middles,
        [100 * bar.accuracy for bar in bars],
        width=width,
        color=ink,
        label=bars[0].label,
        yerr=[
            [100 * (bar.accuracy - bar.low) for bar in bars],
            [100 * (bar.high - bar.accuracy) for bar in bars],
        ],
        error_kw={"ecolor": INK, "elinewidth": 1},
    )


def _add_title_and_grid(axes: Axes, title: str, across: Literal["x", "y"]) -> None:
    """A title, and behind the bars a grid across the axis of accuracies."""
    axes.set_title(title, fontsize=10)
    axes.set_axisbelow(True)
    axes.grid(axis=across, color=INK, alpha=0.25)


def _as_written(texts: Iterable[Text]) -> None:
    """Labels may be a stranger's, and a $ is no formula."""
    for text in texts:
        text.set_parse_math(False)


def _lines(bars: Sequence[Bar], labels: Sequence[str], title: str) -> Figure:
    """A line for each defence: its mean over the attacks with their range, and clean images."""
    drawn = figure(_LEAST_WIDTH, 1.2 + 0.22 * len(labels))
    axes = drawn.subplots()
    for place, label in enumerate(labels):
        of_label = {bar.attack: 100 * bar.accuracy for bar in bars if bar.label == label}
        clean = of_label.pop(CLEAN, None)
        if clean is not None:
            axes.plot(
                clean, place, marker="o", fillstyle="none", color=colour(1), linestyle="", label="clean"
            )
        if attacked := list(of_label.values()):
            mean = sum(attacked) / len(attacked)
            axes.barh(place, mean, color=colour(2), label="mean of attacks")
            axes.hlines(place, min(attacked), max(attacked), color=INK, label="from the least to the most")
    axes.set_yticks(range(len(labels)), [_short(label) for label in labels])
    _as_written(axes.get_yticklabels())
    axes.invert_yaxis()
    axes.set_xlim(0, 101)
    axes.set_xlabel("accuracy, %")
    _add_title_and_grid(axes, title, "x")
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))  # one of each label
    drawn.legend(handles.values(), handles, loc="outside lower center", ncols=len(handles), fontsize=9)
    return drawn


def _short(label: str) -> str:
    """The end of a long label, by which labels differ."""
    return label if len(label) <= _LONGEST else f"…{label[1 - _LONGEST :]}"


def _legend_columns(labels: Sequence[str], width: float) -> int:
    """How many labels fit side by side below a plot of so many inches."""
    return max(1, min(len(labels), int(13 * width / (max(map(len, labels)) + 6))))
