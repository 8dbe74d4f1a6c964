"""What `sample` and `generate` print: tables, the JSON document, what to type next."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from impure.manifests.base.logs import collection_logs
from impure.manifests.base.tables import markdown_table
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.marker import Counts, add_counts, percent_fooled
from impure.manifests.collection.plan import FrozenPlan
from impure.manifests.collection.shard_id import CLEAN
from impure.manifests.commands.console import SHORTFALL, print_json, print_text, say
from impure.pipeline.executors.task_queue import TaskQueue
from impure.pipeline.generation.forecast import forecast
from impure.pipeline.generation.progress import ProgressBar
from impure.pipeline.generation.run import GenerateConfig, GenerationRun, Locations
from impure.pipeline.generation.sample_config import SampleConfig
from impure.pipeline.targets.target_names import TARGETS

_PLAN_COUNTS = ("asked", "sampled", "short", "misclassified", "unreadable")


def print_plans(plans: Sequence[FrozenPlan]) -> None:
    """Accounting of sampling as a table."""
    rows = [[plan.split, *(plan.counts()[name] for name in _PLAN_COUNTS)] for plan in plans]
    click.echo(markdown_table(["split", *_PLAN_COUNTS], rows))


def print_forecast(
    run: GenerationRun, samples: Sequence[SampleConfig], config: GenerateConfig, *, as_json: bool
) -> None:
    """What a run would make, and how long it would take."""
    planned = {"out": str(run.collection.root), **forecast(run, samples, config)}
    if as_json:
        return print_json(planned)
    return click.echo(", ".join(f"{name} {_plain(value)}" for name, value in planned.items()))


def _plain(value: object) -> str:
    """Numbers without an exponent."""
    return f"{value:.9f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def say_refused(refused: Mapping[str, str]) -> None:
    """One line on standard error for each attack that cannot run on the target."""
    for name, reason in refused.items():
        say(f"{name} is left out, the others go on: {reason}")


def totals(queue: TaskQueue) -> dict[str, Counts]:
    """Counts by attack, in the order in which the attacks were asked for."""
    counts: dict[str, list[Counts]] = {name: [] for name in queue.attacks}
    for shard_id, committed in queue.committed.items():
        counts[shard_id.attack].append(committed.counts)
    return {name: add_counts(of_shards) for name, of_shards in counts.items() if of_shards}


def print_document(
    root: Path,
    plans: Sequence[FrozenPlan],
    queue: TaskQueue,
    bar: ProgressBar,
    refused: Mapping[str, str],
) -> None:
    """What was made, as JSON."""
    print_json(
        {
            "out": str(root),
            "plans": {plan.split: plan.counts() for plan in plans},
            "attacks": totals(queue),
            "refused": dict(refused),
            "failed": {str(shard_id): reason for shard_id, reason in queue.failed.items()},
            "shards": len(queue.committed),
            "resumed": _resumed(queue),
            "busy": bar.busy(),
            "limited_by": bar.limit(),
        }
    )


def print_results(root: Path, queue: TaskQueue) -> None:
    """What was made, by attack."""
    rows = [
        [
            name,
            counts["planned"],
            counts["stored"],
            counts["failed"],
            counts["succeeded"],
            percent_fooled(counts),
        ]
        for name, counts in totals(queue).items()
    ]
    click.echo("\n" + markdown_table(["attack", "planned", "stored", "failed", "fooled", "fooled %"], rows))
    click.echo(
        f"\n{len(queue.committed)} shards, {_resumed(queue)} of them there already. Collection: {root}"
    )
    for shard_id, reason in queue.failed.items():
        print_text(f"{shard_id} failed three times: {reason}")


def print_next(locations: Locations, target_name: str) -> None:
    """What to type next, as it can be pasted: nothing that the collection is not ready for."""
    shard_ids = Collection(locations.root).marked()
    attacked = {shard_id.split for shard_id in shard_ids if shard_id.attack != CLEAN}
    commands = [["impure-data", "preview", str(locations.root)]] if shard_ids else []
    if "train" in attacked:
        strange = {shard_id.target for shard_id in shard_ids} - {*TARGETS, target_name}
        validated = "validation" in attacked and not strange
        classifier = _classifier_options(locations, target_name) if validated else []
        commands.append(["impure-train", "--shards", str(locations.root), *classifier])
    for index, command in enumerate(commands):
        click.echo(f"{'' if index else 'Next:':5} {shlex.join(command)}")


def _classifier_options(locations: Locations, target_name: str) -> list[str]:
    """What other commands need to find the target again."""
    options = [] if locations.target in TARGETS else ["--target", locations.target]
    weights = [] if locations.weights is None else ["--weights", f"{target_name}={locations.weights}"]
    return options + weights


def _resumed(queue: TaskQueue) -> int:
    """How many shards were there already."""
    return sum(committed.resumed for committed in queue.committed.values())


def say_where_the_logs_are(root: Path, run_id: str) -> None:
    """One line on standard error, if any process of a run logged anything."""
    logs = collection_logs(root, run_id)
    if logs:
        more = f" and {len(logs) - 1} more of this run" if len(logs) > 1 else ""
        say(f"Log: {logs[0]}{more}")


def exit_on_shortfall(
    plans: Sequence[FrozenPlan], queue: TaskQueue | None = None, refused: Mapping[str, str] | None = None
) -> None:
    """Leave with code 3 if anything that was asked for is not there."""
    short = any(plan.counts()["short"] for plan in plans)
    failed = queue is not None and (
        queue.failed or any(committed.counts["failed"] for committed in queue.committed.values())
    )
    if short or failed or refused:
        say("Finished with less than was asked for; see above.")
        raise SystemExit(SHORTFALL)
