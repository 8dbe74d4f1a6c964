"""`impure-eval table1`: measure defences on the stored shards."""

import shutil
from typing import Any

import click

from impure.manifests.commands.console import HELP, CommandWithSections
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


@click.command("table1", cls=CommandWithSections, sections=SECTIONS, context_settings=HELP)
@table_options("none,jpeg")
def table1_command(**values: Any) -> None:
    """Measure accuracy behind defences (the paper's Table 1).

    The stored bytes of clean and attacked images are classified bare and behind each defence, by the
    classifier that the shards were made on. The table, with 95 % intervals, is printed, and written as
    Markdown, CSV, JSON and a self-contained HTML page; what was predicted for each image, as Parquet.
    Stopped at any moment, the same command goes on with the attack at which it was.

    \b
      impure-eval --shards ./impure-data/builtin --checkpoint ./impure-runs/builtin-tiny
      impure-eval --shards ROOT --checkpoint RUN/best --checkpoint RUN2/best
      impure-eval --shards ROOT --defence all --checkpoint RUN/best
      impure-eval --shards ROOT --checkpoint lab/purifier@main --samples 5 --combine worst --limit 500
    """
    from impure.pipeline.targets.of_collection import class_names, describe_images
    from impure.purifier.evaluation.reports.report_table import remarks, terminal_table
    from impure.purifier.evaluation.tables.table1_files import as_document, write_report

    asked = EvaluateArguments(**values)
    if asked.defences == "list":
        return print_defences(as_json=asked.as_json)
    inputs = open_defences(asked)
    before = partial_results(asked, inputs)
    evaluation = measure_defences(asked, inputs, before=before)
    images, classes = describe_images(inputs.measured.shards), class_names(inputs.measured.shards)
    paths = write_report(evaluation, inputs.measured.out, images=images, classes=classes)
    before.remove()
    shown = terminal_table(evaluation, shutil.get_terminal_size((80, 24)).columns)
    explained = f"\nTop-1 accuracy in %; with Wilson's 95 % intervals in the report; {images}."
    lines = [shown, explained, *remarks(evaluation)]
    return print_report(as_document(evaluation, images, classes), lines, paths, as_json=asked.as_json)
