"""Shards as jobs of a Slurm array, submitted with submitit; a job that dies is submitted again."""

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from impure.manifests.base.errors import InputError, first_line
from impure.pipeline.executors.inline import run_inline, worker_share
from impure.pipeline.executors.task_queue import TRIES, TaskQueue
from impure.pipeline.generation.events import Event, EventBuffer, Failed, Settled, ShardTask
from impure.pipeline.generation.worker import ShardWorker

JOBS = 8


def run_slurm(
    open_maker: Callable[[int], ShardWorker],
    ledger: TaskQueue,
    folder: Path,
    jobs: int | None,
    submit: Sequence[str],
) -> None:
    """Make every task in job arrays of at most so many jobs, and wait for them.

    Args:
        open_maker: Builds what makes shards.
        ledger: What is to be done.
        folder: For submitit's jobs and logs, seen by all nodes. What comes back through it is unpickled, so
            it belongs to the user alone, not to everybody who may write to the collection.
        jobs: At once; `JOBS` by default.
        submit: `KEY=VALUE` each: parameters of submitit's `AutoExecutor`, and `cluster=local` to try it out.

    Raises:
        InputError: submitit is not installed, there is no Slurm, or it refuses a parameter.
        Exception: What a job raised and no retry will mend.
    """
    executor = _open(folder, dict(map(_parameter, submit)))
    while not ledger.done:
        tasks = []
        while task := ledger.take():
            tasks.append(task)
        count = min(jobs or JOBS, len(tasks))
        shares = [worker_share(tasks, index, count) for index in range(count)]
        with executor.batch():
            running = [executor.submit(_make, open_maker, each) for each in shares]
        for job, each in zip(running, shares, strict=True):
            _collect(job, each, ledger)


def _collect(job: Any, tasks: Sequence[ShardTask], ledger: TaskQueue) -> None:
    """Hear what became of a job."""
    try:
        found = job.result()
    except Exception as error:  # noqa: BLE001 - whatever killed the job
        ledger.died(tasks, (), f"its Slurm job {job.job_id} failed: {first_line(error)}")
        return
    if isinstance(found, Exception):
        raise found
    for event in found:
        ledger.hear(event)


def _make(open_maker: Callable[[int], ShardWorker], tasks: Sequence[ShardTask]) -> list[Event] | Exception:
    """Make some tasks in a job, trying again there what fails; what no retry will mend is the result."""
    notes = EventBuffer()
    try:
        run_inline(lambda: open_maker(0), ledger := TaskQueue(tasks, notes))
    except Exception as error:  # noqa: BLE001 - the submitter raises it
        error.add_note(traceback.format_exc())
        return error
    events = [event for event in notes if not isinstance(event, Settled | Failed)]
    given_up = [Failed(shard_id, why) for shard_id, why in ledger.failed.items() for _ in range(TRIES)]
    return [*events, *given_up, *(Settled(task) for task in tasks)]


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
