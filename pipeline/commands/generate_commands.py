"""`impure-data sample` and `impure-data generate`."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from impure.manifests.commands.console import SHORTFALL, Command, print_json, progress, say
from impure.pipeline.commands.shared_options import (
    AUTO,
    Sweep,
    attack_options,
    crew_options,
    sample_options,
    storage_options,
)

if TYPE_CHECKING:
    from impure.pipeline.executors.task_queue import TaskQueue
    from impure.pipeline.generation.draw_plan import Plan, SampleConfig
    from impure.pipeline.generation.events import ShardCommitted
    from impure.pipeline.generation.run import GenerateConfig, GenerationRun


@click.command("sample", cls=Command)
@sample_options
def sample_command(**given: Any) -> None:
    """Choose images: seeded, so many of each class, only those that the target classifies correctly.

    Writes frozen plans (Parquet) that `generate` follows; the same command finds them again.
    """
    from impure.pipeline.commands.parse_options import find_place, sample_configs
    from impure.pipeline.generation.run import open_run

    locations = find_place(given)
    run = open_run(locations)
    plans = draw_plans(run, sample_configs(given, run, locations.threads), given["allow_short"])
    counts = {plan.split: plan.counts() for plan in plans}
    if given["as_json"]:
        print_json({"out": str(run.collection.root), "plans": counts})
    else:
        print_plans(counts)
        click.echo(f"Plans: {run.collection.root / 'plans'}")
    exit_on_shortfall(plans, [], {})


@click.command("generate", cls=Sweep)
@attack_options
@storage_options
@click.option("--profile", type=click.Choice(["pairs", "delta"]), default="pairs", show_default=True,
    help="delta stores perturbations alone, to be handed on without ImageNet's images: see rebuild.",
)  # fmt: skip
@crew_options
@click.option("--dry-run", is_flag=True, help="Sample, say what would be made and how long it takes, stop.")
@sample_options
def generate_command(**given: Any) -> None:
    """Attack images and store the pairs in WebDataset shards with Parquet manifests.

    Samples first where there is no plan. Killed at any moment, the same command goes on where it was.

    \b
      impure-data generate --attack pgd --eps 16
      impure-data generate --attack all --images /data/imagenet --target resnet101 --split train
      impure-data generate --attack pgd --eps 4 8 16 --restarts 5
      impure-data generate --attack pgd --set early_stop=true --targeted least-likely
    """
    from impure.manifests.sharing.open_collection import cache_home
    from impure.pipeline.attacks.engine.precision import check_precision
    from impure.pipeline.commands.parse_options import find_place, order_of, sample_configs
    from impure.pipeline.executors.execute import Execution, ExecutorConfig, execute
    from impure.pipeline.generation.run import open_run

    options = {name: given[name] for name in ("executor", "workers", "worker", "submit")}
    executor_config = ExecutorConfig(**options, logs=cache_home() / "slurm")
    locations = find_place(given)
    # Under torchrun a rank is one of several on its machine, and takes the GPU of its number there.
    run = open_run(
        locations, int(os.environ.get("LOCAL_RANK", 0)) if executor_config.executor == "rank" else 0
    )
    check_precision(given["precision"], run.target.mean.device)
    samples = sample_configs(given, run, locations.threads)
    config = order_of(given, samples)
    plans = draw_plans(run, samples, given["allow_short"])
    if given["batch_size"] == AUTO:  # another process may have been the one that drew the plans
        config = replace(config, batch_size=int(plans[0].config["batch_size"]))
    if given["dry_run"]:
        return print_dry_run(run, config, given["as_json"])
    queue, view = execute(Execution(locations, config, run, executor_config))
    counts, root = {plan.split: plan.counts() for plan in plans}, run.collection.root
    if given["as_json"]:
        failed = {str(shard_id): reason for shard_id, reason in queue.failed.items()}
        print_json(
            {
                "out": str(root),
                "plans": counts,
                "attacks": totals(queue),
                "failed": failed,
                "shards": len(queue.committed),
                "resumed": sum(committed.resumed for committed in queue.committed.values()),
                "busy": view.busy(),
                "limited_by": view.limit(),
            }
        )
    else:
        print_plans(counts)
        print_results(root, queue)
    return exit_on_shortfall(plans, list(queue.committed.values()), queue.failed)


def draw_plans(run: "GenerationRun", samples: "list[SampleConfig]", allow_short: bool) -> "list[Plan]":
    """Sample with a bar."""
    with progress(run.images_wanted(samples), " sampled") as advance:
        return run.draw(samples, allow_short=allow_short, advance=advance)


def print_plans(counts: dict[str, dict[str, int]]) -> None:
    """Accounting of sampling as a table."""
    from impure.manifests.base.tables import markdown_table

    header = ["split", "asked", "sampled", "short", "misclassified", "unreadable"]
    click.echo(
        markdown_table(
            header, [[split, *(row[name] for name in header[1:])] for split, row in counts.items()]
        )
    )


def exit_on_shortfall(
    plans: "Sequence[Plan]", committed: "Sequence[ShardCommitted]", failed: dict[Any, str]
) -> None:
    """Leave with code 3 if anything that was asked for is not there."""
    short = any(plan.counts()["short"] for plan in plans)
    if short or failed or any(each.counts["failed"] for each in committed):
        say("Finished with less than was asked for; see above.")
        raise SystemExit(SHORTFALL)


def totals(queue: "TaskQueue") -> dict[str, dict[str, int]]:
    """Counts by attack, in the order in which they were asked for."""
    from impure.manifests.checks.status import add_up

    counts: dict[str, list[dict[str, int]]] = {name: [] for name in queue.attacks}
    for shard_id, committed in queue.committed.items():
        counts[shard_id.attack].append(committed.counts)
    return {name: add_up(each) for name, each in counts.items() if each}


def print_dry_run(run: "GenerationRun", config: "GenerateConfig", as_json: bool) -> None:
    """Say what a run would make, and how long it would take."""
    from impure.pipeline.generation.forecast import forecast

    planned = {"out": str(run.collection.root), **forecast(run, config)}
    if as_json:
        return print_json(planned)
    shown = {name: f"{value:.9f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
        for name, value in planned.items()}  # fmt: skip
    return click.echo(", ".join(f"{name} {value}" for name, value in shown.items()))


def print_results(root: Path, queue: "TaskQueue") -> None:
    """What was made, by attack, and what to type next."""
    from impure.manifests.base.tables import markdown_table
    from impure.manifests.checks.status import percent

    rows = [
        [name, *(each[column] for column in ("planned", "stored", "failed", "succeeded")), percent(each)]
        for name, each in totals(queue).items()
    ]
    click.echo("\n" + markdown_table(["attack", "planned", "stored", "failed", "fooled", "fooled %"], rows))
    resumed = sum(committed.resumed for committed in queue.committed.values())
    click.echo(f"\n{len(queue.committed)} shards, {resumed} of them there already. Collection: {root}")
    for shard_id, reason in queue.failed.items():
        click.echo(f"{shard_id} failed three times: {reason}")
    click.echo(f"Next: impure-data preview {shlex.quote(str(root))}")
    click.echo(f"      impure-train --shards {shlex.quote(str(root))}")
