"""Who makes what: of several processes on one collection one at a time."""

import fcntl
import os
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from impure.manifests.collection.collection import Collection


def lock_shard(collection: Collection, name: str) -> ExitStack | None:
    """Take a shard to make it, unless a living process has it.

    Args:
        collection: Whose.
        name: Of what is to be made.

    Returns:
        What lets go of it when closed (a killed process lets go too); None if it is taken.
    """
    try:
        return _take(collection, name, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None


def wait_for_shard_lock(collection: Collection, name: str) -> ExitStack:
    """Take a shard, or a plan, as soon as nobody else has it (see `lock_shard`)."""
    return _take(collection, name, fcntl.LOCK_EX)


def _take(collection: Collection, name: str, how: int) -> ExitStack:
    path = collection.root / "_tmp" / f"{name.replace('/', '.')}.claim"
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with ExitStack() as held:
            file = held.enter_context(path.open("w"))
            fcntl.flock(file, how)
            if _is_at(path, file):  # else its owner removed it between our opening and locking it
                held.callback(path.unlink, missing_ok=True)
                return held.pop_all()


def _is_at(path: Path, file: IO[str]) -> bool:
    """Whether an open file is still the one that the path names."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
