"""Learning curves of a run: losses, learning rate, and the accuracy of its validations."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from impure.manifests.base.errors import InputError
from impure.purifier.evaluation.figures.plot_style import COLOURS, INK, colour, figure
from impure.purifier.evaluation.validation_table import (
    NONE,
    RowsByEpoch,
    Score,
    best,
    read_rows,
    trained_rows,
)

STEP, EPOCH, RATE, SPEED = "step", "epoch", "learning_rate", "images_per_second"
SPAN = 10  # a loss that falls by this factor is drawn on a logarithmic axis
_WIDTH, _HEIGHT = 3.6, 3.0  # of a panel, in inches


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """What a run's files tell.

    Attributes:
        log: The columns of log.csv, equally long, at least one row.
        validation: The rows of validation.csv; empty where the run was not validated.
    """

    log: Mapping[str, Sequence[float]]
    validation: RowsByEpoch

    @property
    def losses(self) -> dict[str, Sequence[float]]:
        """The losses, without those that are always zero or equal to another."""
        losses: dict[str, Sequence[float]] = {}
        for name, values in self.log.items():
            if name not in (STEP, EPOCH, RATE, SPEED) and any(values) and values not in losses.values():
                losses[name] = values
        return losses

    @property
    def scores(self) -> dict[int, Score]:
        """The validations by epoch."""
        epochs = sorted(epoch for epoch, defence in self.validation if defence != NONE)
        return {epoch: Score(rows=trained_rows(self.validation, epoch)) for epoch in epochs}

    def document(self, run: str) -> dict[str, Any]:
        """The validations for `impure-eval report`, with the updates so far.

        Args:
            run: The run's name.
        """
        rows = [
            {"epoch": epoch, **row.record()} for (epoch, _), rows in self.validation.items() for row in rows
        ]
        conditions = {"run": run, "updates": int(self.log[STEP][-1]), "validations": len(self.scores)}
        return {"kind": "curves", "conditions": conditions, "rows": rows}

    @property
    def bare(self) -> Score | None:
        """The validation without a defence."""
        return next((Score(rows=rows) for (_, name), rows in self.validation.items() if name == NONE), None)


def read_curves(log: Path, validation: Path) -> Curves:
    """Read what a run has written so far.

    Args:
        log: Its log.csv.
        validation: Its validation.csv, which need not be there.

    Raises:
        InputError: A file cannot be read, or a line makes no sense; the message names it.
    """
    return Curves(log=_read_log(log), validation=read_rows(validation) if validation.exists() else {})


def _read_log(path: Path) -> dict[str, list[float]]:
    """Read log.csv; a last line that is still being written is left out."""
    try:
        text = path.read_text(encoding="utf-8")
        rows = list(csv.reader(text[: text.rfind("\n") + 1].splitlines()))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: not a readable training log ({error})") from error
    if len(rows) < 2:
        raise InputError(f"{path}: holds no row yet; the first is written after some updates")
    header, *lines = rows
    if missing := {STEP, EPOCH, RATE} - set(header):
        raise InputError(f"{path}: no training log; it has no column {', '.join(sorted(missing))}")
    numbers = [
        _numbers(line, len(header), f"{path}: line {number}") for number, line in enumerate(lines, start=2)
    ]
    return {name: list(column) for name, column in zip(header, zip(*numbers, strict=True), strict=True)}


def _numbers(line: Sequence[str], count: int, where: str) -> list[float]:
    """A line's finite numbers."""
    if len(line) != count:
        raise InputError(f"{where} has {len(line)} values instead of {count}; the log is damaged")
    try:
        values = [float(text) for text in line]
    except ValueError as error:
        raise InputError(f"{where}: {error}; the log is damaged") from error
    if not all(map(math.isfinite, values)):
        raise InputError(f"{where} holds a value that is not finite; the log is damaged")
    return values


def curves_plot(curves: Curves) -> Figure:
    """Draw panels side by side: losses and learning rate by update, accuracies by epoch if there are any."""
    panels = [_draw_losses, _draw_rate, *([_draw_scores] if curves.scores else [])]
    drawn = figure(_WIDTH * len(panels), _HEIGHT)
    for axes, draw in zip(drawn.subplots(1, len(panels)), panels, strict=True):
        draw(axes, curves)
        axes.grid(color=INK, alpha=0.25)
    return drawn


def _draw_losses(axes: Axes, curves: Curves) -> None:
    """The losses, on a logarithmic axis where they fall far."""
    for place, (name, values) in enumerate(curves.losses.items()):
        axes.plot(curves.log[STEP], values, color=colour(place + 1), linewidth=1.2, label=name)
    values = [value for loss in curves.losses.values() for value in loss]
    if values and min(values) > 0 and max(values) > SPAN * min(values):
        axes.set_yscale("log")
    axes.set_title("losses", fontsize=10)
    axes.set_xlabel("update")
    axes.legend(fontsize=8)


def _draw_rate(axes: Axes, curves: Curves) -> None:
    """The learning rate."""
    axes.plot(curves.log[STEP], curves.log[RATE], color=colour(2), linewidth=1.2)
    axes.set_title("learning rate", fontsize=10)
    axes.set_xlabel("update")
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))


def _draw_scores(axes: Axes, curves: Curves) -> None:
    """Validation accuracy on clean and attacked images, and without a defence; the best epoch is marked."""
    scores = curves.scores
    epochs = list(scores)
    lines = {
        "clean": [100 * score.clean for score in scores.values()],
        "attacked, mean": [100 * score.attacked for score in scores.values()],
    }
    for place, (name, values) in enumerate(lines.items(), 2):
        axes.plot(epochs, values, color=COLOURS[place], marker="o", markersize=3.5, label=name)
    if curves.bare is not None:
        axes.axhline(
            100 * curves.bare.attacked, color=COLOURS[0], linestyle="--", label="attacked, no defence"
        )
    if (chosen := best(curves.validation)) is not None:
        axes.axvline(chosen[0], color=INK, linestyle=":", label=f"best: epoch {chosen[0]}")
    axes.set_ylim(0, 102)
    axes.set_title("validation accuracy, %", fontsize=10)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8)
