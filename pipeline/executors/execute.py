"""Executors by name: who makes the shards, and with how many workers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from impure.manifests.base.files import disk_errors_named
from impure.manifests.collection.shard_id import CLEAN
from impure.pipeline.devices import cores, workers_for
from impure.pipeline.executors.executor_config import ExecutorConfig
from impure.pipeline.executors.inline import run_inline
from impure.pipeline.executors.local import run_local
from impure.pipeline.executors.rank import rank_of, tasks_of_rank
from impure.pipeline.executors.ray import run_ray
from impure.pipeline.executors.slurm import run_slurm
from impure.pipeline.executors.task_queue import TaskQueue
from impure.pipeline.generation.batch_size import batch_overhead
from impure.pipeline.generation.events import ShardTask
from impure.pipeline.generation.forecast import likely_passes
from impure.pipeline.generation.progress import ProgressBar
from impure.pipeline.generation.run import GenerateConfig, GenerationRun, Locations, worker_factory
from impure.pipeline.generation.time_left import Costs
from impure.pipeline.generation.worker import ShardWorker

MEASURED_FROM = 10_000
"""Passes of a run that is long beside the 27 or so that measuring the overhead of batches takes."""


@dataclass(frozen=True, slots=True)
class Execution:
    """All that an executor may need."""

    locations: Locations
    config: GenerateConfig
    run: GenerationRun
    executor_config: ExecutorConfig

    @property
    def workers(self) -> int:
        """How many work at once on this machine."""
        if self.executor_config.executor != "local":
            return 1
        return self.executor_config.workers or workers_for(
            self.run.target.mean.device, self.locations.threads
        )

    def tasks(self) -> list[ShardTask]:
        """What is to be done here: everything, but for a rank its part."""
        tasks = self.run.tasks(self.config)
        if self.executor_config.executor == "rank":
            return tasks_of_rank(tasks, *rank_of(self.executor_config.worker))
        return tasks

    def costs(self, tasks: Sequence[ShardTask]) -> Costs:
        """See `TimeLeft`; the overhead of batches is measured where that takes little beside the run."""
        passes = {
            CLEAN if attack is None else attack.variant: likely_passes(attack)
            for attack in self.config.attacks
        }
        everything = sum(task.images * passes[attack] for task in tasks for attack in task.attacks)
        size = self.config.batch_size
        worthwhile = everything >= MEASURED_FROM
        return Costs(passes, size, batch_overhead(self.run.target, size) if worthwhile else 0.0)


def _inline(execution: Execution, queue: TaskQueue) -> None:
    run_inline(lambda: ShardWorker(execution.run.jobs(execution.config), cores()), queue)


def _local(execution: Execution, queue: TaskQueue) -> None:
    factory = worker_factory(execution.locations, execution.config, execution.workers)
    run_local(factory, queue, execution.workers)


def _ray(execution: Execution, queue: TaskQueue) -> None:
    device = execution.run.target.mean.device
    threads = execution.locations.threads
    locations = replace(execution.locations, device=device.type)  # as the driver's, whatever the node has
    run_ray(worker_factory(locations, execution.config, max(cores() // threads, 1)), queue, device, threads)


def _slurm(execution: Execution, queue: TaskQueue) -> None:
    factory = worker_factory(execution.locations, execution.config, 1)
    config = execution.executor_config
    run_slurm(factory, queue, config.job_folder, config.workers, config.submit)


EXECUTORS: dict[str, Callable[[Execution, TaskQueue], None]] = {
    "inline": _inline,
    "local": _local,
    "rank": _inline,
    "ray": _ray,
    "slurm": _slurm,
}


def execute(execution: Execution) -> tuple[TaskQueue, ProgressBar]:
    """Make everything that a config asks for, but for a rank its part alone.

    Returns:
        What was committed and what failed, and where the time went.

    Raises:
        InputError: A committed shard was made with another config, or the executor cannot be had.
        OSError: The disk is full, or cannot be written.
    """
    tasks = execution.tasks()
    with (
        ProgressBar(tasks, execution.costs(tasks), execution.workers, cores()) as bar,
        disk_errors_named(execution.locations.root),
    ):
        queue = TaskQueue(tasks, bar)
        EXECUTORS[execution.executor_config.executor](execution, queue)
    return queue, bar
