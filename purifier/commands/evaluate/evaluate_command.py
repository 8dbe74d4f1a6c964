"""`impure-eval table1`: measure defences on the stored shards."""

import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from impure.manifests.base.errors import InputError
from impure.manifests.commands.click_options import (
    comma_separated,
    default_of,
    device_options,
    json_option,
    options,
)
from impure.manifests.commands.console import HELP, CommandWithSections, print_json, writable
from impure.pipeline.commands.shared_options import classifier_options
from impure.pipeline.sources.source_names import BUILTIN
from impure.purifier.commands.evaluate.defence_list import print_defences
from impure.purifier.commands.evaluate.evaluated_checkpoints import open_checkpoints, report_folder
from impure.purifier.commands.shared_inputs import (
    feature_step_option,
    image_step_option,
    open_device,
    open_shards,
    open_validation,
    partition_option,
    set_noise_steps,
    shards_option,
)
from impure.purifier.evaluation.evaluate_config import Combine, EvaluateConfig

if TYPE_CHECKING:
    from impure.purifier.riae.noise import Partition


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateArguments:
    """The values of the options of `impure-eval`; None where nothing was said."""

    shards: str | None
    checkpoints: tuple[Path, ...]
    defences: str
    split: str
    attacks: str | None
    limit: int | None
    samples: int
    combine: Combine
    partition: "Partition | None"
    image_step: int | None
    feature_step: int | None
    extra_resize: bool
    targets: tuple[str, ...]
    weights: tuple[str, ...]
    batch_size: int
    seed: int
    device: str
    threads: int | None
    out: Path | None
    as_json: bool


data_options = options(
    shards_option(),
    click.option("--split", default="test", show_default=True, help="Evaluate on this split."),
    click.option("--attacks", show_default="all there are",
        help="Evaluate on these attacks only, separated by commas, such as fgsm,pgd."),
    click.option("--limit", type=click.IntRange(min=1), show_default="all",
        help="At most this many images of each target and attack, for a quick look."),
    classifier_options,
)  # fmt: skip
defence_options = options(
    click.option("--checkpoint", "checkpoints", type=click.Path(path_type=Path), multiple=True,
        help="A run of impure-train, RIAE or another defence: its folder, its model.safetensors, or "
        "owner/name[@revision] on the Hugging Face Hub; repeatable, each is a column."),
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
    click.option("--seed", type=click.IntRange(min=0), default=default_of(EvaluateConfig, "seed"),
        show_default=True, help="Random seed of random defences."),
)  # fmt: skip
run_options = options(
    click.option("--batch-size", type=click.IntRange(min=1), show_default=True,
        default=default_of(EvaluateConfig, "batch_size"), help="Images at once."),
    device_options,
    click.option("--out", type=click.Path(path_type=Path),
        show_default="CHECKPOINT/report, or ./impure-report where that is no path here, or several",
        help="Folder of the report; with a number behind it where it holds a report already."),
    json_option,
)  # fmt: skip

SECTIONS = {"shards": "Data", "checkpoint": "Defences", "batch_size": "Run"}
"""Headings in --help, by the first option below each."""


@click.command("table1", cls=CommandWithSections, sections=SECTIONS, context_settings=HELP)
@data_options
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
    from impure.pipeline.generation.attack_job import software
    from impure.pipeline.targets.of_collection import class_names, classifiers_of, describe_images
    from impure.pipeline.targets.target import state_sha256
    from impure.purifier.defences.base.defence import TrainedDefence
    from impure.purifier.defences.defence_registry import build_defences
    from impure.purifier.defences.riae_defence import RIAEDefence
    from impure.purifier.evaluation.measure import evaluate as measure
    from impure.purifier.evaluation.reports.report import as_document, write_report
    from impure.purifier.evaluation.reports.report_table import remarks, terminal_table

    asked = EvaluateArguments(**values)
    if asked.defences == "list":
        return print_defences(as_json=asked.as_json)
    if asked.shards is None:
        raise InputError("nothing to evaluate: give --shards ROOT, or --defence list for what there is")
    filters = {"splits": [asked.split], "attacks": comma_separated(asked.attacks)}
    shards = open_shards(asked.shards, filters)
    checkpoints = open_checkpoints(asked.checkpoints)
    trained = {column: checkpoint.defence for column, checkpoint in checkpoints.items()}
    defences = build_defences(comma_separated(asked.defences), trained)
    purifiers = {name: each for name, each in defences.items() if isinstance(each, RIAEDefence)}
    for purifier in purifiers.values():
        set_noise_steps(purifier.riae, asked.image_step, asked.feature_step)
        purifier.partition = asked.partition or purifier.partition
    out = writable(asked.out or report_folder(asked.checkpoints))
    tiny = all(shard.shard_id.target == BUILTIN for shard in shards)
    device = open_device(asked.device, asked.threads, tiny=tiny)
    classifiers = classifiers_of(shards, asked.targets, asked.weights)
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
        shards,
        classifiers,
        defences,
        config,
        device=device,
        validation=open_validation(asked.shards) if detects else (),
        progress=True,
    )
    trained = {name: each for name, each in defences.items() if isinstance(each, TrainedDefence)}
    weights = {**classifiers, **trained}
    made = {
        "weights_sha256": [f"{name}: {state_sha256(network)}" for name, network in weights.items()],
        "checkpoints": [f"{column}: {checkpoint.where}" for column, checkpoint in checkpoints.items()],
        "noise_steps": [
            f"{column}: image {each.riae.config.image_step}, features {each.riae.config.feature_step}"
            for column, each in purifiers.items()
        ],
        "epoch": [f"{column}: {checkpoint.epoch}" for column, checkpoint in checkpoints.items()],
        "software": [f"{name} {version}" for name, version in software()["software"].items()],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    evaluation = replace(evaluation, conditions={**evaluation.conditions, **made})
    images = describe_images(shards)
    paths = write_report(evaluation, out, images=images, classes=class_names(shards))
    if asked.as_json:
        return print_json(as_document(evaluation, images))
    click.echo(terminal_table(evaluation, shutil.get_terminal_size((80, 24)).columns))
    click.echo(f"\nTop-1 accuracy in %; with Wilson's 95 % intervals in the report; {images}.")
    for remark in remarks(evaluation):
        click.echo(remark)
    return click.echo("Report: " + " ".join(str(path) for path in paths))
