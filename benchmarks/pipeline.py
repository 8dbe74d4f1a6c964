"""The whole pipeline beside the attack alone, and how fast shards are written in each way of storing them.

Attack alone: `attack_batch` on images that are decoded already, with nothing classified or stored. Whole
pipeline: decode, attack, classify, encode, write, read back, commit. Both take turns on the same images.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import click
import torch
from attacks import device_name

from impure.manifests.base.tables import markdown_table
from impure.manifests.collection.plan import FrozenPlan
from impure.manifests.collection.samples import Sample
from impure.manifests.collection.shard_id import ShardId
from impure.manifests.collection.storage import Storage
from impure.manifests.collection.storage_profiles import ENCODING_NAMES, PROFILES
from impure.manifests.collection.stored_pairs import read_pairs
from impure.manifests.collection.writer import encode, open_shard
from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.run_attack import attack_batch
from impure.pipeline.executors.execute import Execution, execute
from impure.pipeline.executors.executor_config import ExecutorConfig
from impure.pipeline.generation.attack_job import new_run_id
from impure.pipeline.generation.run import GenerateConfig, GenerationRun, Locations, open_run
from impure.pipeline.generation.sample_config import SampleConfig
from impure.pipeline.sources.source import SourceImage
from impure.pipeline.targets.preprocess import load_clean
from impure.pipeline.tensors import to_tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """Images per second of one attack, alone and in the pipeline: medians; `ratio` is the rounds' median."""

    attack: str
    alone: float
    pipeline: float
    ratio: float
    busy: dict[str, float]
    limited_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """One way to store pairs: pairs per second, one writer, and bytes of a pair."""

    encoding: str
    profile: str
    pairs_per_second: float
    bytes_per_pair: int


def attack_alone(run: GenerationRun, plan: FrozenPlan, attack: AttackConfig, size: int) -> float:
    """Seconds that the attack takes on the planned images."""
    card, device = run.target.card, run.target.mean.device
    rows = plan.table.to_pylist()
    photos = [load_clean(run.source, SourceImage(row["source_id"], row["wnid"]), card).pixels for row in rows]
    begun = time.perf_counter()
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        clean = to_tensor([each for each in photos[start : start + size] if each is not None], device)
        labels = torch.tensor([row["label"] for row in batch], device=device)
        made = attack_batch(attack, run.target, clean, labels, [row["source_id"] for row in batch], 0)
        made.adversarial.cpu()  # waits for the device
    return time.perf_counter() - begun


def whole_pipeline(
    locations: Locations, run: GenerationRun, config: GenerateConfig
) -> tuple[float, dict[str, float], str]:
    """Seconds that the pipeline takes; how busy its stages were, and which held the others up."""
    begun = time.perf_counter()
    queue, view = execute(Execution(locations, config, run, ExecutorConfig()))
    if queue.failed:
        raise click.ClickException(str(queue.failed))
    return time.perf_counter() - begun, view.busy(), view.limit()


def compare(locations: Locations, samples: SampleConfig, attack: AttackConfig, rounds: int) -> Throughput:
    """Let both take turns, each round in a collection of its own."""
    alone, whole = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(dir=locations.root) as root:
            here = Locations(**{**asdict(locations), "root": Path(root)})
            run = open_run(here)
            plan, *_ = run.draw([samples], allow_short=False, advance=lambda count: None)
            config = config_for(plan, attack, samples)
            alone.append(attack_alone(run, plan, attack, samples.batch_size))
            seconds, busy, limit = whole_pipeline(here, run, config)
            whole.append(seconds)
    count = plan.table.num_rows
    return Throughput(
        attack=attack.variant,
        alone=count / statistics.median(alone),
        pipeline=count / statistics.median(whole),
        ratio=statistics.median(a / w for a, w in zip(alone, whole, strict=True)),
        busy=busy,
        limited_by=limit,
    )


def config_for(plan: FrozenPlan, attack: AttackConfig, samples: SampleConfig) -> GenerateConfig:
    """One attack on one plan."""
    return GenerateConfig(
        attacks=(attack,), splits=(plan.split,), seed=0, batch_size=samples.batch_size, compiled=False,
        storage=Storage(), run_id=new_run_id(),
    )  # fmt: skip


def writing(locations: Locations, samples: SampleConfig, attack: AttackConfig) -> list[Writing]:
    """Write the pairs of one attack in every way."""
    with tempfile.TemporaryDirectory(dir=locations.root) as root:
        here = Locations(**{**asdict(locations), "root": Path(root)})
        run = open_run(here)
        plan, *_ = run.draw([samples], allow_short=False, advance=lambda count: None)
        execute(Execution(here, config_for(plan, attack, samples), run, ExecutorConfig()))
        committed = run.collection.committed[0]
        pairs, rows = list(read_pairs(committed)), committed.rows()[0].to_pylist()
        return [
            _write(run, pairs, rows, Storage(encoding=encoding, profile=profile))
            for encoding in ENCODING_NAMES for profile in PROFILES
        ]  # fmt: skip


def _write(
    run: GenerationRun, pairs: Sequence[Sample], rows: Sequence[dict[str, object]], storage: Storage
) -> Writing:
    shard_id = ShardId("bench", "pgd", "train", 0)
    begun = time.perf_counter()
    with open_shard(run.collection, shard_id) as shard:
        for pair, row in zip(pairs, rows, strict=True):
            shard.add(encode(pair, row, storage, shard_id.attack))
        seconds, size = time.perf_counter() - begun, shard.bytes
    return Writing(
        encoding=storage.encoding, profile=storage.profile, pairs_per_second=len(pairs) / seconds,
        bytes_per_pair=size // len(pairs),
    )  # fmt: skip


@click.command()
@click.option("--images", required=True, help="ImageNet folder.")
@click.option("--target", required=True, help="As for impure-data generate.")
@click.option("--attack", "attacks", multiple=True, default=("pgd", "fgsm"), show_default=True)
@click.option("--per-class", default=10, show_default=True)
@click.option("--shard-size", default=50, show_default=True)
@click.option("--batch-size", default=32, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(
    images: str, target: str, attacks: tuple[str, ...], per_class: int, shard_size: int, batch_size: int,
    threads: int, rounds: int, device: str, as_json: bool,
) -> None:  # fmt: skip
    """Compare whole-pipeline and attack-only throughput; then write shards in every way."""
    with tempfile.TemporaryDirectory() as root:
        locations = Locations(
            images=images, labels=None, target=target, weights=None, root=Path(root), device=device,
            threads=threads,
        )  # fmt: skip
        samples = SampleConfig(
            split="train", per_class=per_class, shard_size=shard_size, batch_size=batch_size, threads=threads
        )
        configs = [AttackConfig(name=name) for name in attacks]
        flows = [compare(locations, samples, config, rounds) for config in configs]
        ways = writing(locations, samples, configs[0])
        where = device_name(open_run(locations).target.mean.device)
    conditions = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"), "device": where, "threads": threads,
        "target": Path(target).stem, "per_class": per_class, "shard_size": shard_size,
        "batch_size": batch_size, "rounds": rounds, "torch": version("torch"), "pillow": version("pillow"),
    }  # fmt: skip
    if as_json:
        document = {"flows": [asdict(each) for each in flows], "writing": [asdict(each) for each in ways]}
        return click.echo(json.dumps({"conditions": conditions, **document}, indent=1))
    click.echo(f"{conditions}\n")
    header = ["attack", "alone, images/s", "pipeline, images/s", "ratio", "limited by"]
    cells = [[f.attack, f"{f.alone:.1f}", f"{f.pipeline:.1f}", f"{f.ratio:.3f}", f.limited_by] for f in flows]
    click.echo(markdown_table(header, cells) + "\n")
    header = ["encoding", "profile", "pairs/s", "KiB a pair"]
    rows = [
        [w.encoding, w.profile, f"{w.pairs_per_second:.0f}", f"{w.bytes_per_pair / 1024:.1f}"] for w in ways
    ]
    return click.echo(markdown_table(header, rows))


if __name__ == "__main__":
    main()
