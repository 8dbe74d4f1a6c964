"""Curves of accuracy against an attack's budget, steps and draws, drawn with matplotlib."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from impure.purifier.evaluation.adaptive.attack_curves import Curves
from impure.purifier.evaluation.figures.plot_style import colour, figure, save

AXES = {"eps": "ε, in units of 1/255", "steps": "steps", "eot": "draws of each gradient (EOT)"}
WIDTH, HEIGHT, LEGEND_LINE = 3.7, 2.8, 0.18  # inches: as wide as a telephone


def draw_curves(curves: Mapping[str, Curves]) -> dict[str, Figure]:
    """A figure for each axis that has points, by `eps`, `steps` and `eot`.

    Args:
        curves: By a line's name, such as "riae before resnet101". A single one is the title.
    """
    figures = {}
    for axis in AXES:
        lines = {
            (name, eps): [point for point in of[axis] if axis == "eps" or point["eps"] == eps]
            for name, of in curves.items()
            for eps in _budgets(axis, of[axis])
        }
        if lines:
            figures[axis] = _draw(axis, lines)
    return figures


def _budgets(axis: str, points: Sequence[Mapping[str, Any]]) -> list[int]:
    """The budgets that have a line of their own; against ε there is one line."""
    budgets = sorted({point["eps"] for point in points})
    return [0][: len(budgets)] if axis == "eps" else budgets


def _draw(axis: str, lines: Mapping[tuple[str, int], Sequence[Mapping[str, Any]]]) -> Figure:
    """Mean of draws with its interval, and the worst draw dashed."""
    names = {name for name, _ in lines}
    labels = [_label(name if len(names) > 1 else "", eps) for name, eps in lines]
    drawn = figure(WIDTH, HEIGHT + LEGEND_LINE * len(labels))
    axes = drawn.subplots()
    for index, (label, points) in enumerate(zip(labels, lines.values(), strict=True)):
        x = [point[axis] for point in points]
        percent = {key: [100 * point[key] for point in points] for key in _VERDICTS}
        axes.plot(x, percent["mean"], marker="o", color=colour(index), label=label)
        axes.plot(x, percent["worst"], linestyle="--", color=colour(index))
        axes.fill_between(x, percent["mean_low"], percent["mean_high"], color=colour(index), alpha=0.15)
    axes.set_xscale("log", base=2)
    ticks = sorted({point[axis] for points in lines.values() for point in points})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel(AXES[axis])
    axes.set_ylabel("accuracy, % (dashed: worst draw)")
    axes.set_ylim(-2, 102)
    if len(names) == 1:
        axes.set_title(next(iter(names)), fontsize="medium")
    if any(labels):
        drawn.legend(loc="outside lower center", fontsize="small")
    return drawn


def _label(name: str, eps: int) -> str:
    """What tells a line from others: its name where there are several, its budget where it has one."""
    return ", ".join(filter(None, [name, f"ε {eps}/255" if eps else ""]))


_VERDICTS = ("mean", "worst", "mean_low", "mean_high")


def save_curves(curves: Mapping[str, Curves], folder: Path) -> list[Path]:
    """Write `adaptive-eps`, `adaptive-steps` and `adaptive-eot`, as SVG and PNG.

    Raises:
        WriteError: The folder cannot be written.
    """
    return [
        path
        for axis, drawn in draw_curves(curves).items()
        for path in save(drawn, folder, f"adaptive-{axis}")
    ]
