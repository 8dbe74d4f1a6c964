"""Who makes the shards: this process, several, one of several machines, Ray or Slurm."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from impure.manifests.base.errors import InputError
from impure.manifests.base.files import blaming
from impure.pipeline.devices import cores, workers_for
from impure.pipeline.executors.inline import rank_of, run_inline, worker_share
from impure.pipeline.executors.local import run_local
from impure.pipeline.executors.ray import run_ray
from impure.pipeline.executors.slurm import run_slurm
from impure.pipeline.executors.task_queue import TaskQueue
from impure.pipeline.generation.progress import ProgressView
from impure.pipeline.generation.run import GenerateConfig, GenerationRun, Locations, opener
from impure.pipeline.generation.worker import ShardWorker


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorConfig:
    """Who works.

    Attributes:
        executor: A key of `EXECUTORS`.
        workers: Processes or jobs; None for as many as the devices suggest.
        worker: For rank: `i/n`.
        submit: For slurm: parameters of submitit, `KEY=VALUE` each.
        logs: For slurm: folder of its jobs (see `run_slurm`).
    """

    executor: str = "inline"
    workers: int | None = None
    worker: str | None = None
    submit: tuple[str, ...] = ()
    logs: Path = Path("slurm")

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            raise InputError(f"executor {self.executor!r} is none of {', '.join(EXECUTORS)}")
        used = {"workers": ("local", "slurm"), "worker": ("rank",), "submit": ("slurm",)}
        for name, executors in used.items():
            if getattr(self, name) and self.executor not in executors:
                raise InputError(f"--{name} is for --executor {' or '.join(executors)}")


@dataclass(frozen=True, slots=True)
class Run:
    """All that an executor may need."""

    place: Locations
    order: GenerateConfig
    collector: GenerationRun
    crew: ExecutorConfig

    @property
    def workers(self) -> int:
        """How many work at once on this machine."""
        if self.crew.executor != "local":
            return 1
        return self.crew.workers or workers_for(self.collector.target.mean.device, self.place.threads)


def _inline(run: Run, ledger: TaskQueue) -> None:
    run_inline(lambda: ShardWorker(run.collector.jobs(run.order), cores()), ledger)


def _local(run: Run, ledger: TaskQueue) -> None:
    run_local(opener(run.place, run.order, run.workers), ledger, run.workers)


def _ray(run: Run, ledger: TaskQueue) -> None:
    device, threads = run.collector.target.mean.device, run.place.threads
    place = replace(run.place, device=device.type)  # every worker as the driver, whatever its node has
    run_ray(opener(place, run.order, max(cores() // threads, 1)), ledger, device, threads)


def _slurm(run: Run, ledger: TaskQueue) -> None:
    run_slurm(opener(run.place, run.order, 1), ledger, run.crew.logs, run.crew.workers, run.crew.submit)


EXECUTORS: dict[str, Callable[[Run, TaskQueue], None]] = {
    "inline": _inline,
    "local": _local,
    "rank": _inline,
    "ray": _ray,
    "slurm": _slurm,
}


def execute(run: Run) -> tuple[TaskQueue, ProgressView]:
    """Make everything that an order asks for, but for a rank the share of others.

    Returns:
        What was made and what failed, and where the time went.

    Raises:
        InputError: A committed shard was made with another config, or the executor cannot be had.
        OSError: The disk is full, or cannot be written.
    """
    tasks = run.collector.tasks(run.order)
    if run.crew.executor == "rank":
        tasks = worker_share(tasks, *rank_of(run.crew.worker))
    images = sum(task.images * len(task.attacks) for task in tasks)
    shards = sum(len(task.attacks) for task in tasks)
    with ProgressView(images, shards, run.workers, cores()) as view, blaming(run.place.root):
        ledger = TaskQueue(tasks, view)
        EXECUTORS[run.crew.executor](run, ledger)
    return ledger, view
