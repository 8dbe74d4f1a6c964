"""`impure-eval compare`: defences on the same images, and the images on which they differ."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from impure.manifests.base.errors import InputError
from impure.manifests.commands.click_options import options
from impure.manifests.commands.console import HELP, CommandWithSections, writable
from impure.purifier.commands.evaluate.evaluated_checkpoints import report_folder
from impure.purifier.commands.evaluate.measure_options import data_options, run_options
from impure.purifier.commands.evaluate.print_report import print_report
from impure.purifier.commands.evaluate.tables.defence_options import (
    EvaluateArguments,
    draw_options,
    measure_defences,
    open_defences,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from impure.purifier.evaluation.image_strips import Example

STRIPS = "compare-strips.png"
SECTIONS = {"reports": "What is compared", "shards": "Data", "samples": "Defences", "batch_size": "Run"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What is compared: predictions by these names, and what is known of them."""

    names: tuple[str, ...]
    predictions: "pa.Table"
    conditions: dict[str, Any]
    out: Path
    classes: tuple[str, ...]
    examples: "tuple[Example, ...]" = ()


compare_options = options(
    click.argument("names", nargs=-1, metavar="A B …"),
    click.option("--from", "reports", type=click.Path(path_type=Path), multiple=True, metavar="REPORT",
        help="Compare what was measured already: the folder of a report of table1, table2, table3 or "
        "compare, or its NAME-predictions.parquet; repeatable. A, B, … are then names in its table, such as "
        "none or riae."),
)  # fmt: skip


@click.command("compare", cls=CommandWithSections, sections=SECTIONS, context_settings=HELP)
@compare_options
@data_options(required=False)
@draw_options
@run_options
def compare_command(**values: Any) -> None:
    """Compare defences on the same images: each with the first.

    A, B, … are defences as --defence of table1 takes them, or checkpoints as --checkpoint does. For each
    attack, and in all: images that both get right, that one alone does, that neither does; the difference
    with its 95 % interval for pairs, and McNemar's exact test. The images on which two differ are named, and
    the first of them drawn as strips. Images are paired by the digests of their pixels.

    \b
      impure-eval compare RUN/best RUN2/best --shards ROOT
      impure-eval compare none jpeg jpeg:quality=50 RUN/best --shards ROOT --limit 200
      impure-eval compare riae --from RUN/best/report --from RUN2/best/report
      impure-eval compare jpeg random --from impure-report
    """
    from impure.purifier.evaluation.image_predictions import write_predictions
    from impure.purifier.evaluation.kind_files import write_measured
    from impure.purifier.evaluation.reports.document_page import write_document_page
    from impure.purifier.evaluation.reports.report_pictures import write_strips
    from impure.purifier.evaluation.tables.comparison_report import (
        compare_all,
        comparison_report,
        terminal_comparison,
    )

    names, reports = values.pop("names"), values.pop("reports")
    if bool(reports) == (values["shards"] is not None):
        raise InputError("compare: give --shards ROOT to measure, or --from REPORT for what was measured")
    compared = _read(names, reports, values["out"]) if reports else _measure(names, values)
    comparisons = compare_all(compared.predictions, compared.names)
    strips = STRIPS if compared.examples else ""
    measured = comparison_report(comparisons, compared.conditions, compared.classes, strips)
    paths = write_measured(measured, compared.out)
    folder = paths[0].parent
    if not reports:  # theirs are kept already
        conditions, classes = compared.conditions, compared.classes
        paths.append(write_predictions(folder, measured.kind, compared.predictions, conditions, classes))
    if strips:
        paths.append(write_strips(compared.examples, folder / strips, compared.classes))
    paths.append(write_document_page(paths[0]))
    width = shutil.get_terminal_size((80, 24)).columns
    shown = "\n\n".join(terminal_comparison(comparison, width) for comparison in comparisons)
    print_report(measured.document(), [shown], paths, as_json=values["as_json"])


def _measure(names: tuple[str, ...], values: dict[str, Any]) -> Compared:
    """Measure defences and checkpoints, and keep images on which they differ."""
    from impure.pipeline.targets.of_collection import class_names, describe_images
    from impure.purifier.defences.defence_registry import DEFENCES
    from impure.purifier.evaluation.tables.differing_examples import DifferingExamples

    if len(set(names)) < 2:
        raise InputError("compare: name two defences or checkpoints at least, such as jpeg RUN/best")
    defences = [name for name in names if name.partition(":")[0] in DEFENCES]
    checkpoints = tuple(Path(name) for name in names if name not in defences)
    asked = EvaluateArguments(
        **values, checkpoints=checkpoints, defences=",".join(defences), extra_resize=False
    )
    inputs = open_defences(asked)
    columns = {str(checkpoint.where): column for column, checkpoint in inputs.checkpoints.items()}
    ordered = tuple(dict.fromkeys(columns.get(str(Path(name)), name) for name in names))
    differing = DifferingExamples(ordered, inputs.measured.classifiers)
    evaluation = measure_defences(asked, inputs, observe=differing)
    shards = inputs.measured.shards
    return Compared(
        names=ordered,
        predictions=evaluation.predictions,
        conditions={"images": describe_images(shards), **evaluation.conditions},
        out=inputs.measured.out,
        classes=class_names(shards),
        examples=tuple(differing.examples),
    )


def _read(names: tuple[str, ...], reports: tuple[Path, ...], out: Path | None) -> Compared:
    """Read the predictions of reports."""
    from impure.purifier.evaluation.tables.measured_before import choose, read_reports

    before = read_reports(reports)
    return Compared(
        names=choose(names, before.names),
        predictions=before.predictions,
        conditions=before.conditions,
        out=writable(out or report_folder(())),
        classes=before.classes,
    )
