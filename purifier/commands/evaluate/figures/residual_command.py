"""`impure-eval residual`: how strong an attack is when a part of its perturbation is left."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from impure.manifests.commands.console import HELP, CommandWithSections
from impure.purifier.commands.evaluate.figures.shared_figure import figure_options, report_figure
from impure.purifier.commands.evaluate.measure_options import MeasureArguments, open_purifiers

PATCH, STEPS = 16, 10  # side in pixels, the paper's; between s = 0 and s = 1

NOTE = (
    "Accuracy (top-1, %) of the bare target where a share s of a stored attack's perturbation η is left "
    "(paper, section 3.1). `global` is s·η everywhere; `pixels` and `patches` keep η on a share s of the "
    "pixels, or of the patches, chosen at random in each image, and nothing elsewhere. s = 0 are the clean "
    "images, s = 1 the stored attacks."
)
POINT_NOTE = (
    "`purified`: behind the purifier P, with |P(x + η) - P(x)| / |η| for s, sums of absolute values with the "
    "same noise in both passes, mean over the images."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualArguments(MeasureArguments):
    """The values of the options; None where nothing was said."""

    checkpoint: Path | None
    patch: int
    steps: int


residual_options = figure_options(
    click.option("--checkpoint", type=click.Path(path_type=Path),
        help="Also show how much this run of impure-train, or model on the Hugging Face Hub, leaves."),
    click.option("--patch", type=click.IntRange(min=1), default=PATCH, show_default=True,
        help="Side in pixels of the patches that keep their perturbation or lose it."),
    click.option("--steps", type=click.IntRange(1, 100), default=STEPS, show_default=True,
        help="Number of equal steps of s from 0 to 1."),
)  # fmt: skip
SECTIONS = {"shards": "Data", "checkpoint": "Residual", "batch_size": "Run"}


@click.command("residual", cls=CommandWithSections, sections=SECTIONS, context_settings=HELP)
@residual_options
def residual_command(**values: Any) -> None:
    """Scale perturbations down to nothing (paper, section 3.1).

    The stored perturbations are reduced to a share s of themselves: everywhere, or to all of it on a share of
    the pixels or patches and nothing elsewhere. The bare target classifies the images. No purifier is needed;
    with --checkpoint the plot also shows how much one leaves.

    \b
      impure-eval residual --shards ROOT --limit 100
      impure-eval residual --shards ROOT --checkpoint RUN/best --attacks pgd,apgd-ce
    """
    from impure.pipeline.targets.of_collection import describe_images
    from impure.purifier.evaluation.figures.residual import measure_residual
    from impure.purifier.evaluation.figures.residual_plot import points_table, residual_plot, residual_table
    from impure.purifier.evaluation.kind_files import Measured

    asked = ResidualArguments(**values)
    inputs = open_purifiers(asked, [asked.checkpoint] if asked.checkpoint else [])
    measured = inputs.measured
    residual = measure_residual(
        measured.shards,
        measured.classifiers,
        asked.config(),
        device=measured.device,
        patch=asked.patch,
        steps=asked.steps,
        purifier=next(iter(inputs.defences.values()), None),
        progress=True,
    )
    table = residual_table(residual)
    points = [points_table(residual.points)] if residual.points else []
    figure = Measured(
        kind="residual",
        title="What is left of a perturbation",
        notes=[NOTE, *([POINT_NOTE, *points] if points else [])],
        table=table,
        rows=[*(row.record() for row in residual.rows), *(point.record() for point in residual.points)],
        conditions={"images": describe_images(measured.shards), **residual.conditions},
    )
    lines = ["\n\n".join([table, *points]), "\nTop-1 accuracy in %."]
    report_figure(inputs, figure, partial(residual_plot, residual), lines, as_json=asked.as_json)
