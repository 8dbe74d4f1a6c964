"""The plot and the table of what is left of perturbations: a panel for each attack, a curve for each way."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from impure.manifests.base.tables import markdown_table
from impure.purifier.evaluation.figures.plot_style import INK, colour, figure
from impure.purifier.evaluation.figures.residual import Residual, ResidualRow, Way
from impure.purifier.evaluation.select import line_names

CURVES: dict[Way, str] = {
    "global": "everywhere: s·η",
    "pixels": "on a share s of the pixels",
    "patches": "on a share s of the patches",
}
MARKERS: dict[Way, str] = {"global": "o", "pixels": "s", "patches": "^"}
_COLUMNS, _WIDTH, _HEIGHT = 3, 2.9, 2.3  # of panels; their size in inches


def residual_table(measured: Residual) -> str:
    """Accuracies in per cent: a line for each attack and way, a column for each share; Markdown."""
    shares = list(dict.fromkeys(row.scale for row in measured.rows))
    names = line_names((row.row.target, row.row.attack) for row in measured.rows)
    lines = [
        [
            names[row.row.target, row.row.attack],
            str(row.row.n),
            row.way,
            *(f"{100 * cell.row.accuracy:.1f}" for cell in _curve(measured.rows, row)),
        ]
        for row in measured.rows
        if row.scale == shares[0]
    ]
    return markdown_table(["attack", "n", "s =", *(f"{share:.3g}" for share in shares)], lines)


def points_table(points: Sequence[ResidualRow]) -> str:
    """What a purifier leaves of each attack, and the accuracy behind it; Markdown."""
    names = line_names((point.row.target, point.row.attack) for point in points)
    lines = [
        [
            names[point.row.target, point.row.attack],
            str(point.row.n),
            f"{point.scale:.3f}",
            f"{100 * point.row.accuracy:.1f}",
        ]
        for point in points
    ]
    return markdown_table(["purified", "n", "left, s", "accuracy"], lines)


def residual_plot(measured: Residual, target: str) -> Figure:
    """Draw a target's curves, and a cross where the purifier lies."""
    attacks = list(dict.fromkeys(row.row.attack for row in measured.rows if row.row.target == target))
    columns = min(_COLUMNS, len(attacks))
    lines = -(-len(attacks) // columns)
    drawn = figure(max(4.5, _WIDTH * columns), _HEIGHT * lines + 0.7)
    panels = drawn.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for axes, attack in zip(panels.flat, attacks, strict=False):
        rows = [row for row in measured.rows if (row.row.target, row.row.attack) == (target, attack)]
        points = [
            point for point in measured.points if (point.row.target, point.row.attack) == (target, attack)
        ]
        _draw_panel(axes, attack, rows, points)
    for axes in panels.flat[len(attacks) :]:
        axes.set_visible(False)
    drawn.supxlabel("s: share of the perturbation that is left", fontsize=10)
    drawn.supylabel("accuracy, %", fontsize=10)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside upper center", ncols=2 if columns < 3 else 4, fontsize=9)
    return drawn


def _draw_panel(axes: Axes, attack: str, rows: Sequence[ResidualRow], points: Sequence[ResidualRow]) -> None:
    """One attack's curves."""
    for place, way in enumerate(CURVES, 1):
        curve = [row for row in rows if row.way == way]
        axes.plot(
            [row.scale for row in curve],
            [100 * row.row.accuracy for row in curve],
            color=colour(place),
            marker=MARKERS[way],
            markersize=3.5,
            label=CURVES[way],
        )
    for point in points:
        accuracy = 100 * point.row.accuracy
        axes.plot(point.scale, accuracy, "x", color=colour(5), markersize=8, clip_on=False, label="purified")
    axes.set_title(attack, fontsize=10)
    axes.set_ylim(-3, 103)
    axes.grid(color=INK, alpha=0.25)


def _curve(rows: Sequence[ResidualRow], first: ResidualRow) -> list[ResidualRow]:
    """The rows of the same target, attack and way."""
    key = (first.row.target, first.row.attack, first.way)
    return [row for row in rows if (row.row.target, row.row.attack, row.way) == key]
