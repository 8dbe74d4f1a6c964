"""A generation run: plans for every split of its config, then every shard of every attack."""

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from impure.manifests.base.logs import collection_log, start_log
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.plan import FrozenPlan
from impure.manifests.collection.shard_lock import commit_lock, wait_for_shard_lock
from impure.manifests.collection.storage import Storage
from impure.manifests.collection.temp_dirs import sweep
from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.attack_names import PRECISIONS
from impure.pipeline.attacks.engine.compiled_target import CompiledTarget
from impure.pipeline.devices import cores, device_of, open_device
from impure.pipeline.generation.attack_job import AttackJob, software
from impure.pipeline.generation.events import ShardTask
from impure.pipeline.generation.sample_config import SampleConfig
from impure.pipeline.generation.sampling import classes_in, sample
from impure.pipeline.generation.worker import ShardWorker, shard_tasks
from impure.pipeline.sources.open_source import open_source
from impure.pipeline.sources.source import Source
from impure.pipeline.targets.load import load_target
from impure.pipeline.targets.target import Target

Advance = Callable[[int], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Locations:
    """Where everything is; small enough to be sent to workers on other machines.

    Attributes:
        images: See `open_source`.
        labels: See `open_source`.
        target: See `load_target`.
        weights: See `load_target`.
        root: Of the collection.
        device: Name of a device; see `device_of` for how workers share it.
        threads: CPU threads of one worker.
    """

    images: str
    labels: Path | None
    target: str
    weights: Path | None
    root: Path
    device: str
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateConfig:
    """Which attacks on which splits, and how their pairs are stored.

    Attributes:
        attacks: None stands for the untouched pairs.
        splits: Of the collection.
        seed: Of every random stream.
        batch_size: Images attacked at once.
        compiled: Whether to attack through the compiled target.
        storage: How pairs are stored.
        run_id: Of this run.
    """

    attacks: tuple[AttackConfig | None, ...]
    splits: tuple[str, ...]
    seed: int
    batch_size: int
    compiled: bool
    storage: Storage
    run_id: str


@dataclass(frozen=True, slots=True)
class GenerationRun:
    """A collection in the making: where it lies, its source of images, its target."""

    collection: Collection
    source: Source
    target: Target

    def images_wanted(self, samples: Sequence[SampleConfig]) -> int:
        """Images that sampling looks for, over all splits.

        Raises:
            InputError: The source has no such split, or classes that nobody knows.
        """
        return sum(
            len(classes_in(self.source, self.target, config.split)) * sum(config.sizes.values())
            for config in samples
        )

    def draw(
        self, samples: Sequence[SampleConfig], *, allow_short: bool, advance: Advance
    ) -> list[FrozenPlan]:
        """Sample every split, or find its frozen plan; then describe the collection (see `sample`).

        Of several processes one samples, and the others find its plans.
        """
        plans: list[FrozenPlan] = []
        with wait_for_shard_lock(self.collection, f"{self.target.card.name}.plans"):
            for config in samples:
                plans += sample(
                    self.collection, self.source, self.target, config,
                    allow_short=allow_short, progress=advance,
                )  # fmt: skip
            with commit_lock(self.collection):  # the plans of another target may be under way
                self.collection.write_about({**software()})
        return plans

    def jobs(self, config: GenerateConfig) -> dict[str, list[AttackJob]]:
        """The attacks of a config on each of its splits, by split; the plans are frozen already."""
        plans = [self.collection.plan(self.target.card.name, split) for split in config.splits]
        compiled = {
            precision: CompiledTarget(self.target, config.batch_size, precision)
            for precision in PRECISIONS if config.compiled
        }  # fmt: skip
        return {
            plan.split: [
                AttackJob(
                    collection=self.collection, source=self.source, target=self.target, plan=plan,
                    attack=attack, seed=config.seed, batch_size=config.batch_size, run_id=config.run_id,
                    compiled=compiled.get(attack.precision) if attack and attack.compilable else None,
                    storage=config.storage,
                )
                for attack in in_working_order(config.attacks)
            ]
            for plan in plans if plan is not None
        }  # fmt: skip

    def tasks(self, config: GenerateConfig) -> list[ShardTask]:
        """The tasks of a config, one a shard of a plan; leftovers of killed processes are removed."""
        sweep(self.collection)
        return [task for jobs in self.jobs(config).values() for task in shard_tasks(jobs)]


def in_working_order(attacks: Sequence[AttackConfig | None]) -> list[AttackConfig | None]:
    """Attacks that nobody knows the length of come first: the last ones' tells truly when a run ends."""
    return sorted(attacks, key=lambda attack: attack is None or not attack.ends_early)


def open_run(locations: Locations, number: int = 0) -> GenerationRun:
    """Open source, target and collection for the worker of this number.

    Raises:
        InputError: See `open_source`, `load_target` and `open_device`.
    """
    source = open_source(locations.images, locations.labels)
    target = load_target(locations.target, locations.weights)
    device = device_of(open_device(locations.device, locations.threads), number)
    return GenerationRun(Collection(locations.root), source, target.to(device))


def open_worker(locations: Locations, config: GenerateConfig, workers: int, number: int = 0) -> ShardWorker:
    """Open one of this machine's numbered workers, in a process of its own with its own log."""
    process = f"{socket.gethostname()}-{os.getpid()}"
    start_log(collection_log(locations.root, config.run_id, process))
    return ShardWorker(open_run(locations, number).jobs(config), max(cores() // workers, 1))


def worker_factory(
    locations: Locations, config: GenerateConfig, workers: int
) -> Callable[[int], ShardWorker]:
    """`open_worker` of the worker's number alone, to be sent to workers."""
    return partial(open_worker, locations, config, workers)
