"""`impure-eval fig6`: Grad-CAM of clean, adversarial and purified images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from impure.manifests.commands.console import HELP, CommandWithSections
from impure.purifier.commands.evaluate.figures.shared_figure import figure_options, report_figure
from impure.purifier.commands.evaluate.measure_options import MeasureArguments, open_purifiers

NOTE = (
    "Grad-CAM shows where the bare target looks for the class that it predicts (paper, Figure 6). The number "
    "is Pearson's correlation of an image's map with that of its clean image, in the layer's own resolution: "
    "mean and standard deviation over the images; a map without variation counts as 0. Pictured is one "
    "sample of each attack, with the predicted class below it, green where it is right."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fig6Arguments(MeasureArguments):
    """The values of the options; None where nothing was said."""

    checkpoint: Path
    layer: str | None


fig6_options = figure_options(
    click.option("--checkpoint", type=click.Path(path_type=Path), required=True,
        help="The purifier: a run of impure-train, or its name on the Hugging Face Hub."),
    click.option("--layer", show_default="the last one that returns feature maps",
        help="Layer of the target whose maps are taken, by its name in the network, such as layer4."),
)  # fmt: skip
SECTIONS = {"shards": "Data", "checkpoint": "Purifier", "batch_size": "Run"}


@click.command("fig6", cls=CommandWithSections, sections=SECTIONS, context_settings=HELP)
@fig6_options
def fig6_command(**values: Any) -> None:
    """Show where the target looks (Grad-CAM, paper, Figure 6).

    Grad-CAM of clean, attacked and purified images, and how far the maps correlate with those of the clean
    images. Needs captum: pip install 'impure[figures]'.

    \b
      impure-eval fig6 --shards ROOT --checkpoint RUN/best --attacks pgd --limit 100
    """
    from impure.pipeline.targets.of_collection import class_names, describe_images
    from impure.purifier.evaluation.figures.grad_cam_plot import grad_cam_plot, likeness_table
    from impure.purifier.evaluation.figures.map_likeness import measure_grad_cam
    from impure.purifier.evaluation.kind_files import Measured

    asked = Fig6Arguments(**values)
    inputs = open_purifiers(asked, [asked.checkpoint])
    (purifier,) = inputs.defences.values()
    measured = inputs.measured
    likeness = measure_grad_cam(
        measured.shards,
        measured.classifiers,
        purifier,
        asked.config(),
        device=measured.device,
        layer=asked.layer,
        progress=True,
    )
    table = likeness_table(likeness.rows)
    images = describe_images(measured.shards)
    figure = Measured(
        kind="fig6",
        title="Where the target looks",
        notes=[NOTE],
        table=table,
        rows=[row.record() for row in likeness.rows],
        conditions={"images": images, **likeness.conditions},
    )
    names = class_names(measured.shards)
    lines = [table, f"\nLayer {', '.join(likeness.conditions['layer'])}; {images}."]
    report_figure(
        inputs,
        figure,
        lambda target: grad_cam_plot([shown for shown in likeness.shown if shown.target == target], names),
        lines,
        as_json=asked.as_json,
    )
