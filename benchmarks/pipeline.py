"""The whole pipeline beside the attack alone, ways to store pairs, and the chain behind the attack by itself.

Attack alone: `attack_batch` on images that are decoded already, with nothing classified or stored. Whole
pipeline: decode, attack, classify, encode, write, read back, commit. Both take turns on the same images.
Behind the attack: see `behind_attack.py`, which takes turns with that of another working tree.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import torch
from contest import device_name

from impure.manifests.base.logs import new_run_id
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


def behind_attack(trees: Sequence[Path], rounds: int, options: Sequence[object]) -> list[dict[str, object]]:
    """What the chain behind the attack did in each working tree: medians of the rounds, in turns."""
    return [
        {"encoding": encoding, **row}
        for encoding in ENCODING_NAMES
        for row in _chains(trees, rounds, ["--encoding", encoding, *options])
    ]


def _chains(trees: Sequence[Path], rounds: int, options: Sequence[object]) -> list[dict[str, object]]:
    """A row for each tree; `ratio` is of its pairs per core and second to the last tree's, by rounds."""
    runs = [[_chain(tree, options) for tree in trees] for _ in range(rounds)]
    speed = [[chain["pairs_per_core_second"] for chain in run] for run in runs]
    return [
        {
            "commit": _commit(tree),
            "ratio": statistics.median(round_[index] / round_[-1] for round_ in speed),
            **{name: _median([run[index][name] for run in runs]) for name in runs[0][0]},
        }
        for index, tree in enumerate(trees)
    ]


def _chain(tree: Path, options: Sequence[object]) -> dict[str, Any]:
    """What `behind_attack.py` prints of the package in a working tree."""
    words = [sys.executable, str(Path(__file__).parent / "behind_attack.py"), *map(str, options)]
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    chain: dict[str, Any] = json.loads(done.stdout)
    return chain


def _median(values: Sequence[Any]) -> Any:
    """Of numbers, or of numbers by name."""
    if isinstance(values[0], dict):
        return {name: _median([value[name] for value in values if name in value]) for name in values[0]}
    return statistics.median(values)


def _commit(tree: Path) -> str:
    """The commit that a working tree stands at."""
    words = ["git", "-C", str(tree), "describe", "--always", "--dirty"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


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
@click.option("--behind", is_flag=True, help="Only the chain behind the attack.")
@click.option(
    "--against", type=click.Path(exists=True, path_type=Path), help="--behind: another working tree."
)
@click.option("--json", "as_json", is_flag=True)
def main(
    images: str, target: str, attacks: tuple[str, ...], per_class: int, shard_size: int, batch_size: int,
    threads: int, rounds: int, device: str, behind: bool, against: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Compare whole-pipeline and attack-only throughput; then write shards in every way."""
    if behind:
        options = ["--images", images, "--target", target, "--count", per_class, "--shard-size", shard_size]
        trees = [Path(__file__).parents[1], *([against] if against else [])]
        chains = behind_attack(trees, rounds, [*options, "--threads", threads])
        conditions = _conditions(
            device_name(torch.device("cpu")), threads, target, per_class, shard_size, rounds
        )
        return click.echo(json.dumps({"conditions": conditions, "behind_attack": chains}, indent=1))
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
    conditions = _conditions(where, threads, target, per_class, shard_size, rounds)
    conditions["batch_size"] = batch_size
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


def _conditions(
    device: str, threads: int, target: str, per_class: int, shard_size: int, rounds: int
) -> dict[str, object]:
    """What figures depend on."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"), "device": device, "threads": threads,
        "target": Path(target).stem, "per_class": per_class, "shard_size": shard_size, "rounds": rounds,
        "torch": version("torch"), "pillow": version("pillow"),
        "load": [round(load, 1) for load in os.getloadavg()],
    }  # fmt: skip


if __name__ == "__main__":
    main()
