"""The chain behind the attack alone: decode, encode, check, write, commit, with an attack that takes no time.

Works on the `impure` that Python finds first; with `PYTHONPATH=TREE/src` on that of another working tree.
"""

import json
import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor, nn

from impure.manifests.base.logs import new_run_id
from impure.manifests.collection.storage import Storage
from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.engine.threat_model import AttackResult
from impure.pipeline.executors.execute import Execution, execute
from impure.pipeline.executors.executor_config import ExecutorConfig
from impure.pipeline.generation import attack_batches
from impure.pipeline.generation.attack_job import AttackJob
from impure.pipeline.generation.run import GenerateConfig, GenerationRun, Locations, open_run
from impure.pipeline.generation.sample_config import SampleConfig
from impure.pipeline.targets.load import load_target

EPS_255 = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """What the chain did.

    Attributes:
        pairs: Stored.
        pairs_per_second: By the clock.
        pairs_per_core_second: Over the seconds of CPU of all threads but the attack's.
        bytes_per_pair: Of the tars.
        busy: Share of the time that each stage was at work; 1 is all of its threads.
        peak_mib: Most memory of the process.
    """

    pairs: int
    pairs_per_second: float
    pairs_per_core_second: float
    bytes_per_pair: int
    busy: dict[str, float]
    peak_mib: int


class FirstClass(nn.Module):
    """A classifier that takes no time: every image is of class 0."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("logits", torch.eye(1, classes))

    logits: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes)."""
        return self.logits.expand(len(images), -1)


def instant_attack(side: int) -> Callable[..., AttackResult]:
    """In place of `attack_batches._run_attack`: adds the same noise of ±`EPS_255` to every image."""
    noise = torch.randint(-EPS_255, EPS_255 + 1, (3, side, side), dtype=torch.int16)
    untouched = attack_batches._run_attack

    def run(job: AttackJob, source_ids: Sequence[str], clean: Tensor, *more: Any) -> AttackResult:
        result = untouched(replace(job, attack=None), source_ids, clean, *more)
        return replace(result, adversarial=(clean.short() + noise).clamp(0, 255).to(torch.uint8))

    return run


def open_folder(images: Path, target: str, root: Path) -> GenerationRun:
    """A run on the images of class 0 alone, before a classifier that knows no other class."""
    first = load_target(target, None).card.wnids[0]
    (root / "images" / "train").mkdir(parents=True)
    (root / "images" / "train" / first).symlink_to((images / "train" / first).absolute())
    run = open_run(locations(root, target))
    run.target.network = FirstClass(run.target.card.num_classes)
    return run


def locations(root: Path, target: str) -> Locations:
    """Where the run finds everything."""
    return Locations(
        images=str(root / "images"), labels=None, target=target, weights=None, root=root / "out",
        device="cpu", threads=1,
    )  # fmt: skip


def measure(run: GenerationRun, target: str, root: Path, config: GenerateConfig) -> Chain:
    """Make all shards; the attack's thread is this one, and its time on the CPU does not count."""
    attack_batches._run_attack = instant_attack(run.target.card.crop)
    config.storage.encode(np.zeros((8, 8, 3), np.uint8))  # loading the encoder is no part of the chain
    begun, cpu, own = time.perf_counter(), time.process_time(), time.thread_time()
    _, view = execute(Execution(locations(root, target), config, run, ExecutorConfig()))
    seconds = time.perf_counter() - begun
    cores = time.process_time() - cpu - (time.thread_time() - own)
    shards = [shard.marker for shard in run.collection.committed]
    pairs = sum(marker["counts"]["stored"] for marker in shards)
    return Chain(
        pairs=pairs,
        pairs_per_second=round(pairs / seconds, 1),
        pairs_per_core_second=round(pairs / cores, 1),
        bytes_per_pair=sum(marker["tar"]["bytes"] for marker in shards) // pairs,
        busy={stage: round(share, 3) for stage, share in view.busy().items()},
        peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**10,
    )


@click.command()
@click.option("--images", required=True, type=click.Path(path_type=Path), help="ImageNet folder.")
@click.option("--target", required=True, help="Card; only its preprocessing counts.")
@click.option("--encoding", default="png", show_default=True)
@click.option("--count", default=100, show_default=True, help="Images of class 0.")
@click.option("--attacks", default=4, show_default=True, help="On each image.")
@click.option("--shard-size", default=50, show_default=True)
@click.option("--threads", default=1, show_default=True, help="CPU cores for everything.")
def main(
    images: Path, target: str, encoding: str, count: int, attacks: int, shard_size: int, threads: int
) -> None:
    """Store pairs of an attack that takes no time; print what that took as JSON."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        run = open_folder(images, target, root)
        samples = SampleConfig(split="train", per_class=count, shard_size=shard_size)
        run.draw([samples], allow_short=True, advance=lambda count: None)
        config = GenerateConfig(
            attacks=tuple(AttackConfig(name="fgsm", eps_255=eps + 1) for eps in range(attacks)),
            splits=("train",), seed=0, batch_size=samples.batch_size, compiled=False,
            storage=Storage(encoding=encoding), run_id=new_run_id(),
        )  # fmt: skip
        click.echo(json.dumps(asdict(measure(run, target, root, config))))


if __name__ == "__main__":
    main()
