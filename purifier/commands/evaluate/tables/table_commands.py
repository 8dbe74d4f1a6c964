"""`impure-eval table2` and `table3`: all defences in one table, and attacks that training did not see."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from impure.manifests.commands.console import HELP, CommandWithSections
from impure.purifier.commands.evaluate.measure_options import MeasureInputs
from impure.purifier.commands.evaluate.print_report import print_report
from impure.purifier.commands.evaluate.tables.defence_list import print_defences
from impure.purifier.commands.evaluate.tables.defence_options import (
    SECTIONS,
    EvaluateArguments,
    measure_defences,
    open_defences,
    partial_results,
    table_options,
)

if TYPE_CHECKING:
    from impure.purifier.evaluation.kind_files import Measured
    from impure.purifier.evaluation.measure import Evaluation

EXPLAINED = "\nTop-1 accuracy in %; with Wilson's 95 % intervals in the report."


@click.command("table2", cls=CommandWithSections, sections=SECTIONS, context_settings=HELP)
@table_options("all")
def table2_command(**values: Any) -> None:
    """Compare all defences in one table (the paper's Table 2).

    What table1 measures, with a line for each defence: every one that needs no weights, and those of
    --checkpoint. Columns are clean images, the attacks, and their mean. Where the shards are of several
    targets, each has its table, or --target names the one. Intervals are in the CSV.

    \b
      impure-eval table2 --shards ROOT --checkpoint RUN/best
      impure-eval table2 --shards ROOT --target resnet101 --checkpoint RUN/best --checkpoint HGD/best
      impure-eval table2 --shards ROOT --defence none,jpeg,random --limit 100
    """
    from impure.pipeline.targets.of_collection import class_names, describe_images
    from impure.purifier.evaluation.reports.report_table import remarks
    from impure.purifier.evaluation.tables.all_defences import table2, terminal_table2

    asked = EvaluateArguments(**values)
    if asked.defences == "list":
        return print_defences(as_json=asked.as_json)
    inputs = open_defences(asked, _names_in_shards(asked.targets))
    before = partial_results(asked, inputs)
    evaluation = measure_defences(asked, inputs, before=before)
    shards = inputs.measured.shards
    measured = table2(evaluation, describe_images(shards), class_names(shards))
    paths = _write(measured, evaluation, inputs.measured)
    before.remove()
    lines = [terminal_table2(evaluation, _width()), EXPLAINED, *remarks(evaluation)]
    return print_report(measured.document(), lines, paths, as_json=asked.as_json)


@click.command("table3", cls=CommandWithSections, sections=SECTIONS, context_settings=HELP)
@table_options("none,jpeg")
def table3_command(**values: Any) -> None:
    """Test on attacks that training did not see (paper, Table 3).

    Checkpoints say in their config.json which attacks they were trained on, and on which targets. Attacks
    among them are marked by *, the others are agnostic; each kind has its mean. On shards of a target that a
    checkpoint learnt from no attack on, its figures are transfer. An attack variant such as pgd-e8 is one of
    its own.

    \b
      impure-train --shards ROOT --attacks fgsm,pgd,mifgsm --out RUN
      impure-eval table3 --shards ROOT --checkpoint RUN/best
      impure-eval table3 --shards OTHER_ROOT --checkpoint RUN/best --defence none
    """
    from impure.pipeline.targets.of_collection import class_names, describe_images
    from impure.purifier.defences.base.defence import TrainedDefence
    from impure.purifier.evaluation.tables.agnostic import check_trained, notes, table3, terminal_table3
    from impure.purifier.evaluation.tables.trained_on import trained_on

    asked = EvaluateArguments(**values)
    if asked.defences == "list":
        return print_defences(as_json=asked.as_json)
    inputs = open_defences(asked, _names_in_shards(asked.targets))
    trained = {name: trained_on(checkpoint.where) for name, checkpoint in inputs.checkpoints.items()}
    networks = [name for name, defence in inputs.defences.items() if isinstance(defence, TrainedDefence)]
    check_trained(networks, trained)
    before = partial_results(asked, inputs)
    evaluation = measure_defences(asked, inputs, before=before)
    shards = inputs.measured.shards
    measured = table3(evaluation, trained, describe_images(shards), class_names(shards))
    paths = _write(measured, evaluation, inputs.measured)
    before.remove()
    lines = [terminal_table3(evaluation, trained, _width()), EXPLAINED, *notes(evaluation, trained)]
    return print_report(measured.document(), lines, paths, as_json=asked.as_json)


def _names_in_shards(targets: tuple[str, ...]) -> list[str]:
    """What the shards call the targets of --target, which here also chooses among those of the shards."""
    from impure.pipeline.targets.load import shard_name

    return [shard_name(target) for target in targets]


def _width() -> int:
    """Of the terminal, in characters."""
    return shutil.get_terminal_size((80, 24)).columns


def _write(measured: "Measured", evaluation: "Evaluation", inputs: MeasureInputs) -> list[Path]:
    """Write the table's files, what was predicted for each image, pictures, and the page of them all."""
    from impure.pipeline.targets.of_collection import class_names
    from impure.purifier.evaluation.image_predictions import write_predictions
    from impure.purifier.evaluation.kind_files import write_measured
    from impure.purifier.evaluation.reports.document_page import write_document_page
    from impure.purifier.evaluation.reports.report_pictures import write_pictures

    classes = class_names(inputs.shards)
    paths = write_measured(measured, inputs.out)
    predictions = write_predictions(
        paths[0].parent, measured.kind, evaluation.predictions, measured.conditions, classes
    )
    pictures = write_pictures(evaluation, paths[0].parent, measured.kind, classes)
    return [*paths, predictions, *pictures, write_document_page(paths[0])]
