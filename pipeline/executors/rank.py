"""Rank: which of several machines this one is, and which tasks are its own."""

import os
from collections.abc import Mapping, Sequence

from impure.manifests.base.errors import InputError
from impure.pipeline.generation.events import ShardTask


def rank_of(worker: str | None, environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """Which of how many: from `--worker i/n`, else a Slurm array's variables, else torchrun's.

    Raises:
        InputError: There is none of these, or it makes no sense.
    """
    first = int(environment.get("SLURM_ARRAY_TASK_MIN", 0))
    step = int(environment.get("SLURM_ARRAY_TASK_STEP", 1))
    candidates = (
        worker.split("/") if worker else None,
        _pair(environment, "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", first, step),
        _pair(environment, "RANK", "WORLD_SIZE", 0, 1),
    )
    texts = next((pair for pair in candidates if pair is not None), None)
    if texts is None:
        raise InputError("--executor rank: give --worker i/n, or run in a Slurm array or under torchrun")
    try:
        index, count = map(int, texts)
    except ValueError as error:
        raise InputError(f"--worker {worker}: write i/n, such as 0/4") from error
    if not 0 <= index < count:
        raise InputError(f"worker {index} of {count}: the first of n is 0/n, the last n-1/n")
    return index, count


def _pair(environment: Mapping[str, str], index: str, count: str, first: int, step: int) -> list[str] | None:
    """Both variables, counted from 0; None where one is missing."""
    if index not in environment or count not in environment:
        return None
    return [str((int(environment[index]) - first) // step), environment[count]]


def tasks_of_rank(tasks: Sequence[ShardTask], index: int, count: int) -> list[ShardTask]:
    """The tasks of one of `count` machines."""
    return list(tasks[index::count])
