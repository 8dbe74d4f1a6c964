"""`impure-train`: train the purifier, and say what to do with it."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from impure.manifests.commands.console import HELP, CommandWithSections, say, writable
from impure.manifests.commands.yaml_options import options_as_yaml
from impure.purifier.commands.train_arguments import TrainArguments, check_together, train_config
from impure.purifier.commands.train_output import print_dry_run, print_profile, print_run
from impure.purifier.commands.training_inputs import (
    TrainInputs,
    open_train_inputs,
    open_validator,
    preset_for,
    training_shards,
)
from impure.purifier.commands.training_options import SECTIONS, train_options

if TYPE_CHECKING:
    from impure.manifests.collection.collection import CommittedShard
    from impure.purifier.training.distributed import Ranks
    from impure.purifier.training.runtime_options import RuntimeOptions
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

    asked = TrainArguments(**values)
    check_together(asked)
    rank, world, local_rank = torchrun_ranks()
    if asked.dry_run and rank:
        return None
    shards = training_shards(asked)
    name = asked.model or preset_for(shards, asked, quiet=rank > 0)
    device = rank_device(asked.device, asked.threads, tiny=name.endswith("tiny"), local_rank=local_rank)
    inputs = open_train_inputs(shards, train_config(name, asked), device, asked)
    out = asked.out or Path("impure-runs") / run_name(shards, name, asked)
    if asked.dry_run:
        return print_dry_run(inputs, out, world, asked)
    runtime = RuntimeOptions(
        progress=True,
        workers=decoding_workers(asked.workers, device),
        cache=asked.cache or default_cache(inputs.data_source),
        tensorboard=asked.tensorboard,
    )
    if asked.profile:
        with joined(rank, world, device) as ranks:
            return print_profile(inputs, runtime, ranks, asked)
    out = writable(out)
    validator = open_validator(inputs.config, out, device, asked) if shards and not rank else None
    if validator:
        gap = asked.validate_epochs or default_validate_epochs(inputs.data_source, validator.images)
        runtime = replace(runtime, validate_epochs=gap)
    with joined(rank, world, device) as ranks:
        _train_until_stopped(inputs, out, runtime, ranks, validator, asked)
    return None if rank else print_run(out, inputs.config, shards, asked)


def _train_until_stopped(
    inputs: TrainInputs,
    out: Path,
    runtime: "RuntimeOptions",
    ranks: "Ranks",
    validator: "Validator | None",
    asked: TrainArguments,
) -> None:
    """Train; a run that was asked to stop ends the process, with the exit code of its signal."""
    from impure.purifier.training.stop_signals import TrainingStopped
    from impure.purifier.training.trainer import train as train_riae

    try:
        train_riae(
            inputs.config, inputs.data_source, inputs.features, out, inputs.device,
            runtime=runtime, ranks=ranks, init=asked.init, classifiers=inputs.classifiers,
            validator=validator, options=options_as_yaml(),
        )  # fmt: skip
    except TrainingStopped as stopped:
        if ranks.is_main:
            say(str(stopped))
        raise SystemExit(stopped.exit_code) from stopped


def run_name(shards: "list[CommittedShard]", model: str, asked: TrainArguments) -> str:
    """What a run is called where nobody said: after its collection and its network."""
    from impure.manifests.sharing.cache import split_url

    stage = "-adversarial" if asked.stage == "adversarial" else ""
    if asked.shards is None:
        return f"pretrained-{model}"
    far = "://" in asked.shards
    collection = split_url(asked.shards)[0].rpartition("/")[2] if far else shards[0].root.name
    return f"{collection}-{model}{stage}"
