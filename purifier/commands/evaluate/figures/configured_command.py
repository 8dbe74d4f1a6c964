"""`impure-eval fig7` and `fig8`: checkpoints that were trained with another masking mode, or other layers."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from impure.manifests.base.files import read_json
from impure.manifests.commands.click_options import options
from impure.manifests.commands.console import HELP, CommandWithSections, print_json, print_text
from impure.purifier.commands.evaluate.evaluated_checkpoints import open_checkpoints
from impure.purifier.commands.evaluate.measure_options import (
    MeasureArguments,
    checkpoints_option,
    data_options,
    open_inputs,
    provenance,
    run_options,
    seed_option,
)
from impure.purifier.evaluation.evaluate_config import EvaluateConfig

if TYPE_CHECKING:
    from impure.purifier.evaluation.figures.configured_field import ConfiguredField


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredArguments(MeasureArguments):
    """The values of the options; None where nothing was said."""

    checkpoints: tuple[Path, ...]


configured_options = options(
    data_options(),
    checkpoints_option("A RIAE of impure-train, its folder or its name on the Hugging Face Hub; repeatable, "
        "each is a bar, labelled by its configuration.", required=True),
    seed_option,
    run_options,
)  # fmt: skip
SECTIONS = {"shards": "Data", "checkpoints": "Purifiers", "batch_size": "Run"}


@click.command("fig7", cls=CommandWithSections, sections=SECTIONS, context_settings=HELP)
@configured_options
def fig7_command(**values: Any) -> None:
    """Compare masking modes (the paper's Figure 7).

    The modes are those that the networks were trained with (`impure-train --mask`), and purify with: give a
    checkpoint for each. The report says in what else the runs differ.

    \b
      impure-eval fig7 --shards ROOT --checkpoint OCCLUSION/best --checkpoint BOTH/best
    """
    from impure.purifier.evaluation.figures.configured_field import MASK

    _compare("fig7", "Masking modes", MASK, ConfiguredArguments(**values))


@click.command("fig8", cls=CommandWithSections, sections=SECTIONS, context_settings=HELP)
@configured_options
def fig8_command(**values: Any) -> None:
    """Compare sets of perceptual layers (the paper's Figure 8).

    The layers are those of the feature network in the loss that the networks were trained with
    (`impure-train --recipe`, `--feature-node`): give a checkpoint for each set. The report says in what else
    the runs differ.

    \b
      impure-eval fig8 --shards ROOT --checkpoint PIXEL/best --checkpoint CODE/best
    """
    from impure.purifier.evaluation.figures.configured_field import NODES

    _compare("fig8", "Perceptual layers", NODES, ConfiguredArguments(**values))


def _compare(kind: str, title: str, field: "ConfiguredField", asked: ConfiguredArguments) -> None:
    """Measure checkpoints, labelled by one field of their configuration, and report."""
    from impure.pipeline.targets.of_collection import describe_images
    from impure.purifier.defences.static.none import NoDefence
    from impure.purifier.evaluation.figures.accuracy_bars import accuracy_bars, bars_of
    from impure.purifier.evaluation.figures.configured_field import labels, other_differences
    from impure.purifier.evaluation.kind_files import Measured, write_measured
    from impure.purifier.evaluation.measure import evaluate
    from impure.purifier.evaluation.reports.document_page import write_document_page
    from impure.purifier.evaluation.reports.report_table import remarks, table, terminal_table
    from impure.purifier.riae.pretrained import CONFIG, locate

    opened = open_checkpoints(asked.checkpoints)
    configs = {name: read_json(locate(each.where)[0] / CONFIG) for name, each in opened.items()}
    label = labels(configs, field)
    checkpoints = {label[name]: checkpoint for name, checkpoint in opened.items()}
    purifiers = {name: checkpoint.defence for name, checkpoint in checkpoints.items()}
    inputs = open_inputs(asked, asked.checkpoints)
    evaluation = evaluate(
        inputs.shards,
        inputs.classifiers,
        {"none": NoDefence(), **purifiers},
        EvaluateConfig(batch_size=asked.batch_size, seed=asked.seed, limit=asked.limit),
        device=inputs.device,
        progress=True,
    )
    images = describe_images(inputs.shards)
    differences = other_differences(list(configs.values()), field)
    paragraphs = [
        f"Accuracy (top-1, %) with Wilson's 95 % interval behind RIAEs that were trained with the "
        f"{field.words} "
        "in the header. The mean is over the attacks, without clean.",
        *([f"The runs differ in more than that: {', '.join(differences)}."] if differences else []),
        *remarks(evaluation),
    ]
    measured = Measured(
        kind=kind,
        title=title,
        notes=paragraphs,
        table=table(evaluation),
        rows=[{**row.record()} for row in evaluation.rows],
        conditions={
            "images": images,
            "compared_by": field.words,
            "other_differences": differences or "none",
            **evaluation.conditions,
            **provenance(inputs, purifiers, checkpoints),
        },
    )
    plots = {
        target: accuracy_bars(bars_of(evaluation.rows, target), f"{target}: {field.words}")
        for target in dict.fromkeys(row.target for row in evaluation.rows)
    }
    paths = write_measured(measured, inputs.out, plots)
    paths.append(write_document_page(paths[0]))
    if asked.as_json:
        return print_json(measured.document())
    click.echo(terminal_table(evaluation, shutil.get_terminal_size((80, 24)).columns))
    click.echo(f"\nTop-1 accuracy in %; {images}.")
    for note in paragraphs[1:]:
        print_text(note)
    return click.echo("Report: " + " ".join(str(path) for path in paths))
