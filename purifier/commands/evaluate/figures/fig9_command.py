"""`impure-eval fig9`: uniform against random partition of the patches at test."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from impure.manifests.base.errors import InputError
from impure.manifests.commands.console import HELP, CommandWithSections
from impure.purifier.commands.evaluate.figures.shared_figure import figure_options, report_figure
from impure.purifier.commands.evaluate.measure_options import MeasureArguments, open_purifiers

SAMPLES = 3
NOTE = (
    "Accuracy (top-1, %) behind one RIAE that divides the patches at test uniformly, or at random (paper, "
    "Figure 9): the mean of the samples, in brackets the least and the most. Each sample has noise and "
    "random partition of its own. Whiskers in the plot are Wilson's 95 % interval of the mean over n images."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fig9Arguments(MeasureArguments):
    """The values of the options; None where nothing was said."""

    checkpoint: Path
    samples: int


fig9_options = figure_options(
    click.option("--checkpoint", type=click.Path(path_type=Path), required=True,
        help="The RIAE: a run of impure-train, or its name on the Hugging Face Hub."),
    click.option("--samples", type=click.IntRange(min=1), default=SAMPLES, show_default=True,
        help="How often every image is purified, each time with the next seed."),
)  # fmt: skip
SECTIONS = {"shards": "Data", "checkpoint": "Purifier", "batch_size": "Run"}


@click.command("fig9", cls=CommandWithSections, sections=SECTIONS, context_settings=HELP)
@fig9_options
def fig9_command(**values: Any) -> None:
    """Compare uniform and random partition (paper, Figure 9).

    One RIAE purifies every image with its patches divided uniformly, and divided at random; the accuracies of
    several samples stand beside each other.

    \b
      impure-eval fig9 --shards ROOT --checkpoint RUN/best --samples 5
    """
    from impure.pipeline.targets.of_collection import describe_images
    from impure.purifier.defences.riae_defence import RIAEDefence
    from impure.purifier.evaluation.figures.accuracy_bars import accuracy_bars
    from impure.purifier.evaluation.figures.partitions import measure_partitions, partition_table
    from impure.purifier.evaluation.kind_files import Measured

    asked = Fig9Arguments(**values)
    inputs = open_purifiers(asked, [asked.checkpoint])
    (purifier,) = inputs.defences.values()
    if not isinstance(purifier, RIAEDefence):
        raise InputError(f"--checkpoint {asked.checkpoint}: no RIAE; only its patches are divided")
    measured = inputs.measured
    measurement = measure_partitions(
        measured.shards,
        measured.classifiers,
        purifier.riae,
        asked.config(),
        samples=asked.samples,
        device=measured.device,
        progress=True,
    )
    table = partition_table(measurement.rows)
    images = describe_images(measured.shards)
    figure = Measured(
        kind="fig9",
        title="Uniform and random partition",
        notes=[NOTE],
        table=table,
        rows=[row.record() for row in measurement.rows],
        conditions={"images": images, **measurement.conditions},
    )
    lines = [table, f"\nTop-1 accuracy in %, mean of {asked.samples} samples; {images}."]
    report_figure(
        inputs,
        figure,
        lambda target: accuracy_bars([row.bar for row in measurement.rows if row.target == target], target),
        lines,
        as_json=asked.as_json,
    )
