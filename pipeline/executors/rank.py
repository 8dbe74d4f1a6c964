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
    if worker:
        source, pair = f"--worker {worker}", worker.split("/")
    elif "SLURM_ARRAY_TASK_ID" in environment and "SLURM_ARRAY_TASK_COUNT" in environment:
        return _rank_in_array(environment)
    elif "RANK" in environment and "WORLD_SIZE" in environment:
        source, pair = "RANK and WORLD_SIZE", [environment["RANK"], environment["WORLD_SIZE"]]
    else:
        raise InputError("--executor rank: give --worker i/n, or run in a Slurm array or under torchrun")
    try:
        index, count = map(int, pair)
    except ValueError as error:
        raise InputError(f"{source}: write i/n, such as 0/4") from error
    if not 0 <= index < count:
        raise InputError(f"{source}: worker {index} of {count}: the first of n is 0/n, the last n-1/n")
    return index, count


def _rank_in_array(environment: Mapping[str, str]) -> tuple[int, int]:
    """The place of a Slurm array's task among the array's own numbers.

    Slurm tells a task the smallest and the largest number, their count and step, but not the list. Of two
    numbers, or of evenly spaced ones, that is enough; of others a task cannot know its place.

    Raises:
        InputError: The numbers are not evenly spaced, or make no sense.
    """
    try:
        number, count, first, step = (
            int(environment.get(f"SLURM_ARRAY_TASK_{name}", default))
            for name, default in (("ID", ""), ("COUNT", ""), ("MIN", "0"), ("STEP", "1"))
        )
        last = int(environment.get("SLURM_ARRAY_TASK_MAX", first + step * (count - 1)))
    except ValueError as error:
        raise InputError(f"Slurm's SLURM_ARRAY_TASK_* variables are no numbers ({error})") from error
    if count == 2:
        step = last - first
    places = range(first, last + 1, step) if step > 0 else range(first, first + 1)
    if len(places) != count or number not in places:
        raise InputError(
            f"task {number} cannot know its place in a Slurm array of {count} numbers from {first} to {last} "
            f"that are not evenly spaced: submit --array=0-{count - 1}, or give --worker i/n"
        )
    return places.index(number), count


def tasks_of_rank(tasks: Sequence[ShardTask], index: int, count: int) -> list[ShardTask]:
    """The tasks of one of `count` machines."""
    return list(tasks[index::count])
