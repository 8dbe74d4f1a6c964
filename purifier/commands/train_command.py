"""`impure-train`: train the purifier, and say what to do with it."""

import shlex
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from impure.manifests.base.errors import ImpureError
from impure.manifests.base.tables import markdown_table
from impure.manifests.commands.console import HELP, CommandWithSections, print_json, say, writable
from impure.manifests.commands.yaml_options import options_as_yaml
from impure.pipeline.targets.target_names import TARGETS
from impure.purifier.commands.shared_inputs import open_shards
from impure.purifier.commands.train_arguments import TrainArguments, check_together, train_config
from impure.purifier.commands.training_inputs import (
    attacked_classifiers,
    feature_network,
    open_data_source,
    preset_for,
    training_shards,
    without_held_out,
)
from impure.purifier.commands.training_options import SECTIONS, train_options

if TYPE_CHECKING:
    import torch
    from torch import nn

    from impure.manifests.collection.collection import CommittedShard
    from impure.purifier.training.data_source import DataSource
    from impure.purifier.training.distributed import Ranks
    from impure.purifier.training.runtime_options import RuntimeOptions
    from impure.purifier.training.train_config import TrainConfig
    from impure.purifier.training.validation.validator import Validator


@click.command("impure-train", cls=CommandWithSections, sections=SECTIONS, context_settings=HELP)
@click.version_option(package_name="impure")
@train_options
def train(**values: Any) -> None:
    """Train RIAE, or another defence, on a collection.

    The run's folder gets config.json, run.yaml, log.csv, validation.csv, README.md, model.safetensors, best/
    (the best weights by validation) and the state to go on from: killed at any moment, the same command
    continues, and on the CPU ends with the same weights. If a run fails, its logs/ hold the tracebacks.

    \b
      impure-train --shards ./impure-data/builtin --epochs 1
      impure-train --shards ROOT --model comdefend
      impure-train --shards ROOT --stage adversarial --init RUN/best
      torchrun --nproc-per-node 8 --no-python impure-train --shards ROOT --bf16 --compile
    """
    from impure.purifier.training.distributed import joined
    from impure.purifier.training.runtime_options import RuntimeOptions
    from impure.purifier.training.setup import (
        decoding_workers,
        default_cache,
        default_validate_epochs,
        rank_device,
        torchrun_ranks,
    )
    from impure.purifier.training.stop_signals import TrainingStopped
    from impure.purifier.training.trainer import train as train_riae

    asked = TrainArguments(**values)
    check_together(asked)
    rank, world, local_rank = torchrun_ranks()
    shards = training_shards(asked)
    name = asked.model or preset_for(shards, asked, quiet=rank > 0)
    device = rank_device(asked.device, asked.threads, tiny=name.endswith("tiny"), local_rank=local_rank)
    config = train_config(name, asked)
    workers = decoding_workers(asked.workers, device)
    data_source = open_data_source(shards, config, asked)
    if asked.dry_run and rank:
        return None
    config, features = feature_network(config, shards, asked)
    classifiers = attacked_classifiers(shards, config, asked)
    out = asked.out or Path("impure-runs") / run_name(shards, name, asked)
    if asked.dry_run:
        return dry_run(config, data_source, features, classifiers, out, device, world, asked)
    runtime = RuntimeOptions(
        progress=True, workers=workers, cache=asked.cache or default_cache(data_source),
        tensorboard=asked.tensorboard,
    )  # fmt: skip
    if asked.profile:
        with joined(rank, world, device) as ranks:
            return print_profile(config, data_source, features, classifiers, device, runtime, ranks, asked)
    out = writable(out)
    validator = open_validator(config, out, device, asked) if shards and not rank else None
    if validator:
        gap = asked.validate_epochs or default_validate_epochs(data_source, validator.images)
        runtime = replace(runtime, validate_epochs=gap)
    try:
        with joined(rank, world, device) as ranks:
            train_riae(
                config, data_source, features, out, device,
                runtime=runtime, ranks=ranks, init=asked.init, classifiers=classifiers, validator=validator,
                options=options_as_yaml(),
            )  # fmt: skip
    except TrainingStopped as stopped:
        if not rank:
            say(str(stopped))
        raise SystemExit(stopped.exit_code) from stopped
    return None if rank else print_run(out, config, shards, asked)


def print_profile(
    config: "TrainConfig",
    data_source: "DataSource",
    features: "nn.Module | None",
    classifiers: "Mapping[str, nn.Module]",
    device: "torch.device",
    runtime: "RuntimeOptions",
    ranks: "Ranks",
    asked: TrainArguments,
) -> None:
    """Say where the time of some updates goes."""
    from impure.purifier.training.profile_updates import Cost, profile_updates

    def table(what: str, costs: tuple[Cost, ...]) -> str:
        rows = [
            [cost.name[:60], f"{cost.calls:g}", f"{cost.milliseconds:.3f}", f"{cost.share:.1%}"]
            for cost in costs
        ]
        return "\n" + markdown_table([what, "calls", "ms", "share"], rows)

    trace: Path = asked.profile or Path()
    profiled = profile_updates(
        config, data_source, features, trace, device, runtime=runtime, ranks=ranks, init=asked.init,
        classifiers=classifiers,
    )  # fmt: skip
    if not ranks.is_main:
        return None
    if asked.as_json:
        return print_json({"trace": str(trace), **asdict(profiled)})
    busy = "" if profiled.busy is None else f"; kernels take {profiled.busy:.1%} of it"
    click.echo(
        f"An update: {profiled.milliseconds:.1f} ms, {profiled.images_per_second:.1f} images/s; "
        f"waiting for data {profiled.waiting:.1%} of the time{busy}"
    )
    if profiled.kernels:
        click.echo(table("kernel on the GPU", profiled.kernels))
    click.echo(table("operation", profiled.operations))
    return click.echo(f"\nTrace: {trace}, for ui.perfetto.dev. Nothing was trained.")


def open_validator(
    config: "TrainConfig", out: Path, device: "torch.device", asked: TrainArguments
) -> "Validator | None":
    """The validator that was asked for, or where none was, the one that can be had.

    Raises:
        InputError: Something of it was asked for, or the run was validated before, and it cannot be had.
    """
    from impure.pipeline.targets.of_collection import class_names, classifiers_of
    from impure.purifier.evaluation.validation_table import FILE
    from impure.purifier.training.validation.adaptive_validator import AdaptiveValidator
    from impure.purifier.training.validation.stored_validator import StoredValidator

    split = asked.validate or "validation"
    if asked.shards is None or split == "none":
        return None
    try:
        shards = without_held_out(open_shards(asked.shards, {"splits": [split]}), asked)
        classifiers = classifiers_of(shards, asked.targets, asked.weights)
    except ImpureError as error:
        if asked.validate or asked.targets or asked.weights or (out / FILE).exists():
            raise
        say(f"No validation: {error}")
        return None
    if config.adversary:
        return AdaptiveValidator(
            shards, classifiers, out, eps=config.adversary.eps[-1], images=asked.validate_images,
            batch_size=32, device=device, progress=True,
        )  # fmt: skip
    return StoredValidator(
        shards, classifiers, out, images=asked.validate_images, batch_size=32, device=device,
        class_names=class_names(shards), progress=True,
    )  # fmt: skip


def run_name(shards: "list[CommittedShard]", model: str, asked: TrainArguments) -> str:
    """What a run is called where nobody said: after its collection and its network."""
    from impure.manifests.sharing.cache import split_url

    stage = "-adversarial" if asked.stage == "adversarial" else ""
    if asked.shards is None:
        return f"pretrained-{model}"
    far = "://" in asked.shards
    collection = split_url(asked.shards)[0].rpartition("/")[2] if far else shards[0].root.name
    return f"{collection}-{model}{stage}"


def dry_run(
    config: "TrainConfig",
    data_source: "DataSource",
    features: "nn.Module | None",
    classifiers: "Mapping[str, nn.Module]",
    out: Path,
    device: "torch.device",
    world: int,
    asked: TrainArguments,
) -> None:
    """Refuse what training would refuse, and say what it would be."""
    from impure.purifier.training.dry_run import plan
    from impure.purifier.training.train_log import check_tensorboard

    if asked.tensorboard:
        check_tensorboard()
    open_validator(config, out, device, asked)
    planned = plan(
        config, data_source, features, out, device, world=world, init=asked.init, classifiers=classifiers,
        cache=asked.cache or "none",
    )  # fmt: skip
    if asked.as_json:
        return print_json(planned)
    return click.echo(
        "\n".join(f"{name.replace('_', ' ')}: {_shown(value)}" for name, value in planned.items())
    )


def _shown(value: Any) -> str:
    """A value of the plan for people."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {number}" for name, number in value.items())
    return "unknown on a CPU" if value is None else str(value)


def print_run(
    out: Path, config: "TrainConfig", committed: "list[CommittedShard]", asked: TrainArguments
) -> None:
    """Where the run is, and what to do with it."""
    if asked.as_json:
        return print_json({"out": str(out), "config": asdict(config)})
    click.echo(f"Run: {out}")
    if config.epochs == 1:
        click.echo(
            "One epoch is a smoke test: this purifier may spoil more than it mends. Train for more --epochs"
        )
    if asked.shards is None:
        return click.echo(f"Next: impure-train --shards ROOT --init {shlex.quote(str(out))}")
    best = out / "best" if (out / "best").exists() else out
    evaluate = ["impure-eval", "adaptive"] if config.adversary else ["impure-eval"]
    command = [*evaluate, *_evaluated_shards(committed, asked.shards), "--checkpoint", str(best)]
    for option, values in (("--target", asked.targets), ("--weights", asked.weights)):
        command += [word for value in values for word in (option, value)]
    unnamed = {shard.shard_id.target for shard in committed} - set(TARGETS) if not asked.targets else set()
    cards = "".join(f", with --target CARD of {name}" for name in sorted(unnamed))
    return click.echo(f"Next{cards}: {shlex.join(command)}")


def _evaluated_shards(committed: "list[CommittedShard]", shards: str) -> list[str]:
    """The options by which impure-eval finds images that were not learnt from, if there are any."""
    from impure.manifests.collection.collection import Collection

    if "://" in shards:
        return ["--shards", shards]
    root = committed[0].root
    splits = {shard_id.split for shard_id in Collection(root).marked()}
    split = next(split for split in ("test", "validation", "train") if split in splits)
    return ["--shards", str(root), *([] if split == "test" else ["--split", split])]
