"""`impure-eval fig7` and `fig8`: checkpoints that were trained with another masking mode, or other layers."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from impure.manifests.base.files import read_json
from impure.manifests.commands.console import HELP, CommandWithSections
from impure.purifier.commands.evaluate.figures.shared_figure import figure_options, report_figure
from impure.purifier.commands.evaluate.measure_options import (
    DefenceInputs,
    MeasureArguments,
    checkpoints_option,
    open_purifiers,
)

if TYPE_CHECKING:
    from impure.purifier.evaluation.figures.configured_field import ConfiguredField
    from impure.purifier.evaluation.measure import Evaluation

NOTE = (
    "Accuracy (top-1, %) with Wilson's 95 % interval behind RIAEs that were trained with the {} in the "
    "header. The mean is over the attacks, without clean."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredArguments(MeasureArguments):
    """The values of the options; None where nothing was said."""

    checkpoints: tuple[Path, ...]


configured_options = figure_options(
    checkpoints_option("A RIAE of impure-train, its folder or its name on the Hugging Face Hub; repeatable, "
        "each is a bar, labelled by its configuration.", required=True),
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
    from impure.purifier.evaluation.figures.accuracy_bars import accuracy_bars, bars_of
    from impure.purifier.evaluation.figures.configured_field import labels, other_differences
    from impure.purifier.evaluation.kind_files import Measured
    from impure.purifier.evaluation.reports.report_table import remarks, table, terminal_table
    from impure.purifier.riae.pretrained import CONFIG, locate

    opened = open_purifiers(asked, asked.checkpoints)
    configs = {name: read_json(locate(each.where)[0] / CONFIG) for name, each in opened.checkpoints.items()}
    inputs = _relabelled(opened, labels(configs, field))
    evaluation = _evaluation(inputs, asked)
    images = describe_images(inputs.measured.shards)
    differences = other_differences(list(configs.values()), field)
    caveats = [f"The runs differ in more than that: {', '.join(differences)}."] if differences else []
    caveats += remarks(evaluation)
    figure = Measured(
        kind=kind,
        title=title,
        notes=[NOTE.format(field.words), *caveats],
        table=table(evaluation),
        rows=[row.record() for row in evaluation.rows],
        conditions={
            "images": images,
            "compared_by": field.words,
            "other_differences": differences or "none",
            **evaluation.conditions,
        },
    )
    shown = terminal_table(evaluation, shutil.get_terminal_size((80, 24)).columns)
    lines = [shown, f"\nTop-1 accuracy in %; {images}.", *caveats]
    report_figure(
        inputs,
        figure,
        lambda target: accuracy_bars(bars_of(evaluation.rows, target), f"{target}: {field.words}"),
        lines,
        as_json=asked.as_json,
    )


def _evaluation(inputs: DefenceInputs, asked: ConfiguredArguments) -> "Evaluation":
    """Measure the target bare, and behind each checkpoint."""
    from impure.purifier.defences.static.none import NoDefence
    from impure.purifier.evaluation.measure import evaluate

    measured = inputs.measured
    return evaluate(
        measured.shards,
        measured.classifiers,
        {"none": NoDefence(), **inputs.defences},
        asked.config(),
        device=measured.device,
        progress=True,
    )


def _relabelled(inputs: DefenceInputs, label: Mapping[str, str]) -> DefenceInputs:
    """The same under other names."""
    return replace(
        inputs,
        defences={label[name]: defence for name, defence in inputs.defences.items()},
        checkpoints={label[name]: checkpoint for name, checkpoint in inputs.checkpoints.items()},
    )
