"""`impure-eval table1`: measure defences on the stored shards."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from impure.manifests.base.errors import InputError
from impure.manifests.commands.click_options import comma_separated, default_of, options
from impure.manifests.commands.console import HELP, CommandWithSections, print_json
from impure.purifier.commands.evaluate.defence_list import print_defences
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
from impure.purifier.commands.shared_inputs import (
    feature_step_option,
    image_step_option,
    open_validation,
    partition_option,
    set_noise_steps,
)
from impure.purifier.evaluation.evaluate_config import Combine, EvaluateConfig

if TYPE_CHECKING:
    from impure.purifier.riae.noise import Partition


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateArguments(MeasureArguments):
    """The values of the options of `impure-eval`; None where nothing was said."""

    checkpoints: tuple[Path, ...]
    defences: str
    samples: int
    combine: Combine
    partition: "Partition | None"
    image_step: int | None
    feature_step: int | None
    extra_resize: bool


defence_options = options(
    checkpoints_option("A run of impure-train, RIAE or another defence: its folder, its model.safetensors, "
        "or owner/name[@revision] on the Hugging Face Hub; repeatable, each is a column."),
    click.option("--defence", "defences", default="none,jpeg", show_default=True,
        help="Defences to compare, separated by commas, each NAME or NAME:KEY=VALUE:KEY=VALUE, such as "
        "jpeg:quality=50; all for every one that needs no weights. Checkpoints are added; their names say "
        "where. `--defence list` prints all, with their parameters."),
    click.option("--samples", type=click.IntRange(min=1), default=default_of(EvaluateConfig, "samples"),
        show_default=True, help="How often random defences are run on each image."),
    click.option("--combine", type=click.Choice(get_args(Combine)), show_default=True,
        default=default_of(EvaluateConfig, "combine"), help="What becomes of several samples: classify the "
        "mean image, take the majority, or count an image as right only if every sample is."),
    partition_option,
    image_step_option,
    feature_step_option,
    click.option("--extra-resize", is_flag=True,
        help="Also evaluate behind the resizing of the authors' test script, as rows NAME+resize."),
    seed_option,
)  # fmt: skip

SECTIONS = {"shards": "Data", "checkpoint": "Defences", "batch_size": "Run"}
"""Headings in --help, by the first option below each."""


@click.command("table1", cls=CommandWithSections, sections=SECTIONS, context_settings=HELP)
@data_options(required=False)
@defence_options
@run_options
def table1_command(**values: Any) -> None:
    """Measure accuracy behind defences (the paper's Table 1).

    The stored bytes of clean and attacked images are classified bare and behind each defence, by the
    classifier that the shards were made on. The table, with 95 % intervals, is printed, and written as
    Markdown, CSV, JSON and a self-contained HTML page.

    \b
      impure-eval --shards ./impure-data/builtin --checkpoint ./impure-runs/builtin-tiny
      impure-eval --shards ROOT --checkpoint RUN/best --checkpoint RUN2/best
      impure-eval --shards ROOT --defence all --checkpoint RUN/best
      impure-eval --shards ROOT --checkpoint lab/purifier@main --samples 5 --combine worst --limit 500
    """
    from impure.pipeline.targets.of_collection import class_names, describe_images
    from impure.purifier.defences.defence_registry import build_defences
    from impure.purifier.defences.riae_defence import RIAEDefence
    from impure.purifier.evaluation.measure import evaluate as measure
    from impure.purifier.evaluation.reports.report import as_document, write_report
    from impure.purifier.evaluation.reports.report_table import remarks, terminal_table

    if values["defences"] == "list":
        return print_defences(as_json=values["as_json"])
    if values["shards"] is None:
        raise InputError("nothing to evaluate: give --shards ROOT, or --defence list for what there is")
    asked = EvaluateArguments(**values)
    checkpoints = open_checkpoints(asked.checkpoints)
    trained = {column: checkpoint.defence for column, checkpoint in checkpoints.items()}
    defences = build_defences(comma_separated(asked.defences), trained)
    for purifier in defences.values():
        if isinstance(purifier, RIAEDefence):
            set_noise_steps(purifier.riae, asked.image_step, asked.feature_step)
            purifier.partition = asked.partition or purifier.partition
    inputs = open_inputs(asked, asked.checkpoints)
    config = EvaluateConfig(
        batch_size=asked.batch_size,
        seed=asked.seed,
        samples=asked.samples,
        combine=asked.combine,
        extra_resize=asked.extra_resize,
        limit=asked.limit,
    )
    detects = any(defence.detects for defence in defences.values())
    evaluation = measure(
        inputs.shards,
        inputs.classifiers,
        defences,
        config,
        device=inputs.device,
        validation=open_validation(asked.shards) if detects else (),
        progress=True,
    )
    made = provenance(inputs, defences, checkpoints)
    evaluation = replace(evaluation, conditions={**evaluation.conditions, **made})
    images = describe_images(inputs.shards)
    paths = write_report(evaluation, inputs.out, images=images, classes=class_names(inputs.shards))
    if asked.as_json:
        return print_json(as_document(evaluation, images))
    click.echo(terminal_table(evaluation, shutil.get_terminal_size((80, 24)).columns))
    click.echo(f"\nTop-1 accuracy in %; with Wilson's 95 % intervals in the report; {images}.")
    for remark in remarks(evaluation):
        click.echo(remark)
    return click.echo("Report: " + " ".join(str(path) for path in paths))
