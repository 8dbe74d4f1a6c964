"""What the commands that measure on stored shards share: options, and opening what they name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from impure.manifests.commands.click_options import (
    Decorator,
    comma_separated,
    default_of,
    device_options,
    json_option,
    options,
)
from impure.manifests.commands.console import writable
from impure.pipeline.commands.shared_options import classifier_options
from impure.pipeline.sources.source_names import BUILTIN
from impure.purifier.commands.evaluate.evaluated_checkpoints import (
    EvaluatedCheckpoint,
    open_checkpoints,
    report_folder,
)
from impure.purifier.commands.shared_inputs import open_device, open_shards, shards_option
from impure.purifier.evaluation.evaluate_config import EvaluateConfig

if TYPE_CHECKING:
    import torch

    from impure.manifests.collection.collection import CommittedShard
    from impure.pipeline.targets.target import Target
    from impure.purifier.defences.base.defence import Defence


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureArguments:
    """The values of the options below; None where nothing was said."""

    shards: str
    split: str
    attacks: str | None
    limit: int | None
    targets: tuple[str, ...]
    weights: tuple[str, ...]
    batch_size: int
    seed: int
    device: str
    threads: int | None
    out: Path | None
    as_json: bool

    def config(self) -> EvaluateConfig:
        """How every group of samples is evaluated."""
        return EvaluateConfig(batch_size=self.batch_size, seed=self.seed, limit=self.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureInputs:
    """What the options name, opened."""

    shards: "list[CommittedShard]"
    classifiers: "dict[str, Target]"
    device: "torch.device"
    out: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class DefenceInputs:
    """Shards and classifiers, defences by the names of their columns, and those of them from checkpoints."""

    measured: MeasureInputs
    defences: "Mapping[str, Defence]"
    checkpoints: Mapping[str, EvaluatedCheckpoint]


def data_options(*, required: bool = True) -> Decorator:
    """Which stored images are measured on, and by which classifiers."""
    return options(
        shards_option(required=required),
        click.option("--split", default="test", show_default=True, help="Evaluate on this split."),
        click.option("--attacks", show_default="all there are",
            help="Evaluate on these attacks only, separated by commas, such as fgsm,pgd."),
        click.option("--limit", type=click.IntRange(min=1), show_default="all",
            help="At most this many images of each target and attack, for a quick look."),
        classifier_options,
    )  # fmt: skip


seed_option = click.option(
    "--seed", type=click.IntRange(min=0), default=default_of(EvaluateConfig, "seed"), show_default=True,
    help="Random seed of random defences.",
)  # fmt: skip
run_options = options(
    click.option("--batch-size", type=click.IntRange(min=1), show_default=True,
        default=default_of(EvaluateConfig, "batch_size"), help="Images at once."),
    device_options,
    click.option("--out", type=click.Path(path_type=Path),
        show_default="CHECKPOINT/report, or ./impure-report where that is no path here, or several",
        help="Folder of the report; with a number behind it where it holds such a report already."),
    json_option,
)  # fmt: skip


def checkpoints_option(help_text: str, *, required: bool = False) -> Decorator:
    """The option that names checkpoints, each a column."""
    return click.option("--checkpoint", "checkpoints", type=click.Path(path_type=Path), multiple=True,
        required=required, help=help_text)  # fmt: skip


def open_inputs(
    asked: MeasureArguments, checkpoints: Sequence[Path] = (), targets: Sequence[str] = ()
) -> MeasureInputs:
    """Open shards, classifiers and device, and make sure of the folder of the report.

    Args:
        asked: The options.
        checkpoints: What is measured: the report goes beside a single one.
        targets: Names in the shards of the only targets to keep; empty keeps all.

    Raises:
        InputError: Something that was asked for is not there, or does not fit.
        WriteError: The folder cannot be written.
    """
    from impure.pipeline.targets.of_collection import classifiers_of

    filters = {
        "splits": [asked.split],
        "attacks": comma_separated(asked.attacks),
        "targets": list(targets),
    }
    shards = open_shards(asked.shards, filters)
    out = writable(asked.out or report_folder(checkpoints))
    tiny = all(shard.shard_id.target == BUILTIN for shard in shards)
    return MeasureInputs(
        shards=shards,
        classifiers=classifiers_of(shards, asked.targets, asked.weights),
        device=open_device(asked.device, asked.threads, tiny=tiny),
        out=out,
    )


def open_purifiers(asked: MeasureArguments, checkpoints: Sequence[Path]) -> DefenceInputs:
    """Open checkpoints, and what `open_inputs` opens; the checkpoints are the only defences.

    Raises:
        InputError: Something that was asked for is not there, or does not fit.
        WriteError: The folder cannot be written.
    """
    opened = open_checkpoints(checkpoints)
    return DefenceInputs(
        measured=open_inputs(asked, checkpoints),
        defences={column: checkpoint.defence for column, checkpoint in opened.items()},
        checkpoints=opened,
    )


def provenance(inputs: DefenceInputs) -> dict[str, Any]:
    """What made the numbers, for a report: digests of all weights, checkpoints, versions, date."""
    from impure.pipeline.generation.attack_job import software
    from impure.pipeline.targets.target import state_sha256
    from impure.purifier.defences.base.defence import TrainedDefence
    from impure.purifier.defences.riae_defence import RIAEDefence

    checkpoints = inputs.checkpoints
    trained = {name: each for name, each in inputs.defences.items() if isinstance(each, TrainedDefence)}
    networks = {**inputs.measured.classifiers, **trained}
    return {
        "weights_sha256": [f"{name}: {state_sha256(network)}" for name, network in networks.items()],
        "checkpoints": [f"{column}: {checkpoint.where}" for column, checkpoint in checkpoints.items()],
        "noise_steps": [
            f"{column}: image {each.riae.config.image_step}, features {each.riae.config.feature_step}"
            for column, each in trained.items()
            if isinstance(each, RIAEDefence)
        ],
        "epoch": [f"{column}: {checkpoint.epoch}" for column, checkpoint in checkpoints.items()],
        "software": [f"{name} {version}" for name, version in software()["software"].items()],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
