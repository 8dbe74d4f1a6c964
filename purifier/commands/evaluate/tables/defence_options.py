"""The options that choose defences and how random ones are run, and measuring what they name."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from impure.manifests.base.errors import InputError
from impure.manifests.commands.click_options import Decorator, comma_separated, default_of, options
from impure.purifier.commands.evaluate.evaluated_checkpoints import open_checkpoints
from impure.purifier.commands.evaluate.measure_options import (
    DefenceInputs,
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
    from impure.purifier.evaluation.measure import Evaluation
    from impure.purifier.evaluation.measure_group import Observe
    from impure.purifier.evaluation.partial_results import PartialResults
    from impure.purifier.riae.noise import Partition


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateArguments(MeasureArguments):
    """The values of the options of a measurement of defences; None where nothing was said."""

    checkpoints: tuple[Path, ...]
    defences: str
    samples: int
    combine: Combine
    partition: "Partition | None"
    image_step: int | None
    feature_step: int | None
    extra_resize: bool

    def config(self) -> EvaluateConfig:
        """How every group of samples is evaluated."""
        return EvaluateConfig(
            batch_size=self.batch_size,
            seed=self.seed,
            samples=self.samples,
            combine=self.combine,
            extra_resize=self.extra_resize,
            limit=self.limit,
        )


draw_options = options(
    click.option("--samples", type=click.IntRange(min=1), default=default_of(EvaluateConfig, "samples"),
        show_default=True, help="How often random defences are run on each image."),
    click.option("--combine", type=click.Choice(get_args(Combine)), show_default=True,
        default=default_of(EvaluateConfig, "combine"), help="What becomes of several samples: classify the "
        "mean image, take the majority, or count an image as right only if every sample is."),
    partition_option,
    image_step_option,
    feature_step_option,
    seed_option,
)  # fmt: skip

SECTIONS = {"shards": "Data", "checkpoint": "Defences", "batch_size": "Run"}
"""Headings in --help, by the first option below each."""


def table_options(default: str) -> Decorator:
    """The options of a table: its data, its defences, by default those of a text, and how it is run."""
    return options(
        data_options(required=False),
        checkpoints_option("A run of impure-train, RIAE or another defence: its folder, its "
            "model.safetensors, or owner/name[@revision] on the Hugging Face Hub; repeatable, each is a "
            "defence of its own."),
        click.option("--defence", "defences", default=default, show_default=True,
            help="Defences to compare, separated by commas, each NAME or NAME:KEY=VALUE:KEY=VALUE, such as "
            "jpeg:quality=50; all for every one that needs no weights. Checkpoints are added; their names "
            "say where. `--defence list` prints all, with their parameters."),
        draw_options,
        click.option("--extra-resize", is_flag=True,
            help="Also evaluate behind the resizing of the authors' test script, as rows NAME+resize."),
        run_options,
    )  # fmt: skip


def open_defences(asked: EvaluateArguments, targets: Sequence[str] = ()) -> DefenceInputs:
    """Open all that the options name.

    Args:
        asked: The options.
        targets: Names in the shards of the only targets to keep; empty keeps all.

    Raises:
        InputError: Something that was asked for is not there, or does not fit.
        WriteError: The folder cannot be written.
    """
    from impure.purifier.defences.defence_registry import build_defences
    from impure.purifier.defences.riae_defence import RIAEDefence

    if asked.shards is None:
        raise InputError("nothing to evaluate: give --shards ROOT, or --defence list for what there is")
    checkpoints = open_checkpoints(asked.checkpoints)
    trained = {name: checkpoint.defence for name, checkpoint in checkpoints.items()}
    defences = build_defences(comma_separated(asked.defences), trained)
    for purifier in defences.values():
        if isinstance(purifier, RIAEDefence):
            set_noise_steps(purifier.riae, asked.image_step, asked.feature_step)
            purifier.partition = asked.partition or purifier.partition
    return DefenceInputs(
        measured=open_inputs(asked, asked.checkpoints, targets),
        defences=defences,
        checkpoints=checkpoints,
    )


def partial_results(asked: EvaluateArguments, inputs: DefenceInputs) -> "PartialResults":
    """What was measured of all this before it was interrupted, in the folder of the report."""
    from impure.pipeline.generation.attack_job import software
    from impure.pipeline.targets.target import state_sha256
    from impure.purifier.evaluation.partial_results import PartialResults

    identity = {
        "config": asdict(asked.config()),
        "defences": {
            name: [defence.settings, state_sha256(defence)] for name, defence in inputs.defences.items()
        },
        "targets": {name: state_sha256(target) for name, target in inputs.measured.classifiers.items()},
        "device": inputs.measured.device.type,
        **software(),
    }
    return PartialResults(inputs.measured.out, identity)


def measure_defences(
    asked: EvaluateArguments,
    inputs: DefenceInputs,
    *,
    observe: "Observe | None" = None,
    before: "PartialResults | None" = None,
) -> "Evaluation":
    """Measure every defence on every attack; the conditions say on which images and what made the numbers.

    Args:
        asked: The options.
        inputs: What they name.
        observe: Told of each batch.
        before: What was measured already; see `partial_results`.

    Raises:
        InputError: A shard is inconsistent, or nothing is left to measure.
    """
    from impure.purifier.evaluation.measure import evaluate

    measured = inputs.measured
    detects = any(defence.detects for defence in inputs.defences.values())
    evaluation = evaluate(
        measured.shards,
        measured.classifiers,
        inputs.defences,
        asked.config(),
        device=measured.device,
        validation=open_validation(str(asked.shards)) if detects else (),
        progress=True,
        observe=observe,
        partial_results=before,
    )
    return replace(evaluation, conditions={**evaluation.conditions, **provenance(inputs)})
