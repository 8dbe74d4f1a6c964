"""What `impure-train` prints: the plan of a dry run, where the time goes, and where a run is at its end."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from impure.manifests.base.tables import markdown_table
from impure.manifests.commands.console import print_json
from impure.pipeline.targets.target_names import TARGETS
from impure.purifier.commands.train_arguments import TrainArguments
from impure.purifier.commands.training_inputs import TrainInputs, open_validator

if TYPE_CHECKING:
    from impure.manifests.collection.collection import CommittedShard
    from impure.purifier.training.distributed import Ranks
    from impure.purifier.training.profile_updates import Cost
    from impure.purifier.training.runtime_options import RuntimeOptions
    from impure.purifier.training.train_config import TrainConfig


def print_dry_run(inputs: TrainInputs, out: Path, world: int, asked: TrainArguments) -> None:
    """Refuse what training would refuse, and say what it would be."""
    from impure.purifier.training.dry_run import plan
    from impure.purifier.training.train_log import check_tensorboard

    if asked.tensorboard:
        check_tensorboard()
    open_validator(inputs.config, out, inputs.device, asked)
    planned = plan(
        inputs.config, inputs.data_source, inputs.features, out, inputs.device,
        world=world, init=asked.init, classifiers=inputs.classifiers, cache=asked.cache or "none",
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


def print_profile(
    inputs: TrainInputs, runtime: "RuntimeOptions", ranks: "Ranks", asked: TrainArguments
) -> None:
    """Say where the time of some updates goes."""
    from impure.purifier.training.profile_updates import profile_updates

    trace: Path = asked.profile or Path()
    profiled = profile_updates(
        inputs.config, inputs.data_source, inputs.features, trace, inputs.device,
        runtime=runtime, ranks=ranks, init=asked.init, classifiers=inputs.classifiers,
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
        click.echo(_cost_table("kernel on the GPU", profiled.kernels))
    click.echo(_cost_table("operation", profiled.operations))
    return click.echo(f"\nTrace: {trace}, for ui.perfetto.dev. Nothing was trained.")


def _cost_table(what: str, costs: "Sequence[Cost]") -> str:
    """The costliest of a kind."""
    rows = [
        [cost.name[:60], f"{cost.calls:g}", f"{cost.milliseconds:.3f}", f"{cost.share:.1%}"] for cost in costs
    ]
    return "\n" + markdown_table([what, "calls", "ms", "share"], rows)


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
