"""Shards as jobs of a Slurm array, submitted with submitit; a job that dies is submitted again."""

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from impure.manifests.base.errors import InputError, first_line
from impure.manifests.base.logs import log_failure
from impure.pipeline.executors.executor_config import SLURM_JOBS
from impure.pipeline.executors.inline import run_inline
from impure.pipeline.executors.rank import tasks_of_rank
from impure.pipeline.executors.task_queue import TRIES, TaskQueue
from impure.pipeline.generation.events import Event, EventBuffer, ShardFailed, ShardTask, TaskFinished
from impure.pipeline.generation.worker import ShardWorker


def run_slurm(
    open_worker: Callable[[int], ShardWorker],
    queue: TaskQueue,
    folder: Path,
    jobs: int | None,
    submit: Sequence[str],
) -> None:
    """Run every task in job arrays of at most so many jobs, and wait for them.

    Args:
        open_worker: Opens what makes shards.
        queue: What is to be done.
        folder: For submitit's jobs and logs, seen by all nodes. What comes back through it is unpickled, so
            it belongs to the user alone, not to everybody who may write to the collection.
        jobs: At once; `SLURM_JOBS` by default.
        submit: `KEY=VALUE` each: parameters of submitit's `AutoExecutor`, and `cluster=local` to try it out.

    Raises:
        InputError: submitit is not installed, there is no Slurm, or it refuses a parameter.
        Exception: What a job raised and no retry will mend.
    """
    executor = _open(folder, dict(map(_parameter, submit)))
    while not queue.done:
        tasks = []
        while task := queue.next_task():
            tasks.append(task)
        count = min(jobs or SLURM_JOBS, len(tasks))
        shares = [tasks_of_rank(tasks, index, count) for index in range(count)]
        with executor.batch():
            running = [executor.submit(_run_tasks, open_worker, share) for share in shares]
        for job, share in zip(running, shares, strict=True):
            _record(job, share, queue)


def _record(job: Any, tasks: Sequence[ShardTask], queue: TaskQueue) -> None:
    """Wait for a job and record what it did."""
    try:
        result = job.result()
    except Exception as error:  # noqa: BLE001 - whatever killed the job
        queue.worker_died(tasks, (), f"its Slurm job {job.job_id} failed: {first_line(error)}")
        return
    if isinstance(result, Exception):
        raise result
    for event in result:
        queue.record(event)


def _run_tasks(
    open_worker: Callable[[int], ShardWorker], tasks: Sequence[ShardTask]
) -> list[Event] | Exception:
    """Run some tasks in a job, trying again there what fails; what no retry will mend is the result."""
    buffer = EventBuffer()
    try:
        run_inline(lambda: open_worker(0), queue := TaskQueue(tasks, buffer))
    except Exception as error:  # noqa: BLE001 - the submitter raises it
        log_failure(error)
        error.add_note(traceback.format_exc())
        return error
    events = [event for event in buffer if not isinstance(event, TaskFinished | ShardFailed)]
    given_up = [ShardFailed(shard_id, why) for shard_id, why in queue.failed.items() for _ in range(TRIES)]
    return [*events, *given_up, *(TaskFinished(task) for task in tasks)]


def _parameter(text: str) -> tuple[str, Any]:
    """KEY=VALUE; whole numbers as such.

    Raises:
        InputError: There is no `=`.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f"--submit {text!r}: write KEY=VALUE, such as slurm_partition=gpu")
    return key, int(value) if value.isdigit() else value


def _open(folder: Path, parameters: dict[str, Any]) -> Any:
    """Submitit's executor.

    Raises:
        InputError: It is not installed, there is no Slurm, or it refuses a parameter.
    """
    try:
        import submitit
    except ImportError as error:
        raise InputError("--executor slurm needs submitit: pip install 'impure[slurm]'") from error
    cluster = parameters.pop("cluster", "slurm")
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(**{"timeout_min": 24 * 60, **parameters})
    except (RuntimeError, NameError, TypeError, ValueError) as error:
        raise InputError(f"Slurm jobs cannot be submitted: {first_line(error)}") from error
    return executor
