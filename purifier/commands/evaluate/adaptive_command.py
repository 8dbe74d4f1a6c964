"""`impure-eval adaptive`: attack through a defence, by somebody who knows it."""

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from impure.manifests.commands.click_options import (
    comma_separated,
    default_of,
    device_options,
    json_option,
    options,
    shown_default,
)
from impure.manifests.commands.console import (
    HELP,
    SHORTFALL,
    CommandWithSections,
    say,
    writable,
)
from impure.pipeline.commands.shared_options import classifier_options
from impure.pipeline.sources.source_names import BUILTIN
from impure.purifier.commands.evaluate.evaluated_checkpoints import open_checkpoints
from impure.purifier.commands.evaluate.measure_options import (
    DefenceInputs,
    MeasureInputs,
    checkpoints_option,
    provenance,
)
from impure.purifier.commands.evaluate.print_report import print_report
from impure.purifier.commands.shared_inputs import open_device, open_shards, shards_option, whole_numbers
from impure.purifier.evaluation.adaptive.adaptive_config import PRESETS, AdaptiveConfig

if TYPE_CHECKING:
    from impure.purifier.evaluation.adaptive.subject_run import SubjectRun


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveArguments:
    """The values of the options; None where nothing was said."""

    shards: str
    split: str
    targets: tuple[str, ...]
    weights: tuple[str, ...]
    checkpoints: tuple[Path, ...]
    defences: str
    preset: str
    attacks: str | None
    eps: str
    steps: int | None
    eot: int | None
    restarts: int | None
    images: int | None
    samples: str | None
    budget: str | None
    seed: int
    batch_size: int
    device: str
    threads: int | None
    out: Path
    as_json: bool


def _shown(field: str) -> str:
    """A field's default with the presets that differ; several numbers as they are typed."""
    return (
        shown_default(AdaptiveConfig, field, PRESETS)
        .translate(str.maketrans("", "", "() "))
        .replace(",;", ";")
    )


data_options = options(
    shards_option(required=True),
    click.option("--split", default="test", show_default=True, help="Attack the clean images of this split."),
    click.option("--images", type=click.IntRange(min=1), show_default=_shown("images"),
        help="At most this many images of each target."),
    classifier_options,
)  # fmt: skip
defence_options = options(
    checkpoints_option("A run of impure-train to attack through, or its name on the Hugging Face Hub; "
        "repeatable."),
    click.option("--defence", "defences", default="none", show_default=True,
        help="Defences to attack through, separated by commas, as for table1. Checkpoints are added."),
)  # fmt: skip
attack_options = options(
    click.option("--preset", type=click.Choice(list(PRESETS)), default="quick", show_default=True,
        help="Attacks, steps, draws and images together; options below change one of them."),
    click.option("--attacks", show_default="the preset's",
        help="Attacks through the defence, separated by commas; the first is also run by attackers who know "
        "less."),
    click.option("--eps", default="4,16", show_default=True,
        help="L∞ budgets in units of 1/255, separated by commas."),
    click.option("--steps", type=click.IntRange(min=1), show_default=_shown("steps"),
        help="Steps of each attack; Square asks 25 times as often."),
    click.option("--eot", type=click.IntRange(min=1), show_default=_shown("eot"),
        help="Expectation over transformation: draws of a random defence for each gradient."),
    click.option("--restarts", type=click.IntRange(min=1), show_default=_shown("restarts"),
        help="Runs of each attack from fresh starts."),
    click.option("--samples", show_default=_shown("samples"),
        help="Fresh draws of a random defence for the verdict on each image; several numbers, separated by "
        "commas, are rows of their own."),
    click.option("--budget", show_default="as long as it takes",
        help="Time for all of it, such as 90s, 10m or 2h: images, steps and draws are chosen to fit, as far "
        "as no option sets them, from what a gradient is measured to cost. OUT keeps the choice."),
    click.option("--seed", type=click.IntRange(min=0), default=default_of(AdaptiveConfig, "seed"),
        show_default=True, help="Random seed of starts and draws."),
)  # fmt: skip
run_options = options(
    click.option("--batch-size", type=click.IntRange(min=1), show_default=True,
        default=default_of(AdaptiveConfig, "batch_size"), help="Images at once."),
    device_options,
    click.option("--out", type=click.Path(path_type=Path), default=Path("impure-adaptive"),
        show_default=True, help="Folder of the evaluation: the same command goes on there where it was."),
    json_option,
)  # fmt: skip

SECTIONS = {"shards": "Data", "checkpoint": "Defences", "preset": "Attacks", "batch_size": "Run"}
"""Headings in --help, by the first option below each."""


@click.command("adaptive", cls=CommandWithSections, sections=SECTIONS, context_settings=HELP)
@data_options
@defence_options
@attack_options
@run_options
def adaptive_command(**values: Any) -> None:
    """Attack through defences, end to end.

    Gradients go through defence and target, averaged over the defence's draws; every attacked image is stored
    as 8 bits and classified behind fresh draws. Three figures stand side by side: the mean of draws, images
    right in every draw, and the vote of draws. Checks below the table tell whether the attack can be
    believed; exit code 3 where one failed. Results of every image are in OUT/results, as Parquet, written as
    they come: stopped at any moment, the same command goes on.

    \b
      impure-eval adaptive --shards ROOT --checkpoint RUN/best
      impure-eval adaptive --shards ROOT --checkpoint RUN/best --preset standard --eps 4
      impure-eval adaptive --shards ROOT --defence none,jpeg --images 50 --steps 10
    """
    from impure.pipeline.targets.of_collection import describe_images
    from impure.purifier.evaluation.adaptive.adaptive_report import (
        KIND,
        block,
        document,
        remarks,
        write_adaptive_report,
    )
    from impure.purifier.evaluation.adaptive.run_adaptive import evaluate_adaptively
    from impure.purifier.evaluation.reports.document_page import write_document_page

    asked = AdaptiveArguments(**values)
    config = adaptive_config(asked)
    inputs = _open_inputs(asked, config)
    measured = inputs.measured
    config, told = _within_budget(asked, config, inputs)
    results = evaluate_adaptively(_runs(inputs, config), measured.device, progress=True)
    conditions = {
        "threat_model": "adaptive: white box through defence and target, L∞, verdict on stored 8-bit images",
        "images": describe_images(measured.shards),
        "preset": asked.preset,
        "budget": told,
        "probe": f"curves and checks on the first {config.probe} images",
        "device": f"{measured.device.type}, float32",
        **provenance(inputs),
    }
    paths = write_adaptive_report(results, conditions, measured.out)
    paths.append(write_document_page(measured.out / f"{KIND}.json"))
    shown = "\n\n".join([*map(block, results), *remarks(results)]) + "\n"
    print_report(document(results, conditions), [shown], paths, as_json=asked.as_json)
    raise SystemExit(SHORTFALL if any(result.is_broken for result in results) else 0)


def _open_inputs(asked: AdaptiveArguments, config: AdaptiveConfig) -> DefenceInputs:
    """Open all that the options name.

    Raises:
        InputError: Something is not there or does not fit, or a target has too few classes for an attack.
        WriteError: The folder cannot be written.
    """
    from impure.pipeline.attacks.attack_config import AttackConfig
    from impure.pipeline.targets.of_collection import classifiers_of
    from impure.purifier.defences.defence_registry import build_defences

    shards = open_shards(asked.shards, {"splits": [asked.split]})
    checkpoints = open_checkpoints(asked.checkpoints)
    trained = {column: checkpoint.defence for column, checkpoint in checkpoints.items()}
    defences = build_defences(comma_separated(asked.defences), trained)
    out = writable(asked.out)
    tiny = all(shard.shard_id.target == BUILTIN for shard in shards)
    device = open_device(asked.device, asked.threads, tiny=tiny)
    classifiers = classifiers_of(shards, asked.targets, asked.weights)
    for attack, classifier in product(config.attacks, classifiers.values()):
        AttackConfig(name=attack).check_classes(classifier.card.num_classes)
    measured = MeasureInputs(shards=shards, classifiers=classifiers, device=device, out=out)
    return DefenceInputs(measured=measured, defences=defences, checkpoints=checkpoints)


def _runs(inputs: DefenceInputs, config: AdaptiveConfig) -> "list[SubjectRun]":
    """The evaluations of all defences before all targets."""
    from impure.purifier.evaluation.adaptive.run_adaptive import subject_runs

    opened = inputs.measured
    return subject_runs(
        opened.shards, opened.classifiers, inputs.defences, config, opened.out, device=opened.device
    )


def _within_budget(
    asked: AdaptiveArguments, config: AdaptiveConfig, inputs: DefenceInputs
) -> tuple[AdaptiveConfig, str]:
    """What fits `--budget`, and one line about it, which is also said now.

    Raises:
        InputError: The budget is no time, or the kept choice cannot be read.
    """
    from impure.purifier.evaluation.adaptive.budget import choose, read_duration

    if asked.budget is None:
        return config, "none: as asked for"
    seconds = read_duration(asked.budget)
    given = [name for name in ("images", "steps", "eot") if getattr(asked, name) is not None]
    opened = inputs.measured
    choice = choose(_runs(inputs, config), config, seconds, opened.out, device=opened.device, keep=given)
    told = choice.told(asked.budget)
    say(f"Chosen for {told}.")
    return choice.applied_to(config), told


def adaptive_config(asked: AdaptiveArguments) -> AdaptiveConfig:
    """The preset, with what the user set.

    Raises:
        InputError: A value is impossible.
    """
    names = ("steps", "eot", "restarts", "images", "seed", "batch_size")
    values: dict[str, Any] = {name: getattr(asked, name) for name in names}
    if asked.attacks is not None:
        values["attacks"] = tuple(comma_separated(asked.attacks))
    if asked.samples is not None:
        values["samples"] = whole_numbers("--samples", asked.samples, "10,128")
    values["eps"] = whole_numbers("--eps", asked.eps, "4,16, in units of 1/255")
    given = {name: value for name, value in values.items() if value is not None}
    return AdaptiveConfig.preset(asked.preset, **given)
