"""Locks among the processes on one collection: one makes a shard, and one at a time commits."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from impure.manifests.base.file_lock import file_lock, take_lock
from impure.manifests.collection.collection import Collection


@contextmanager
def commit_lock(collection: Collection) -> Iterator[None]:
    """Hold the collection's lock while files are moved into place; waits for whoever holds it."""
    with file_lock(collection.root / "_tmp" / "commit.lock"):
        yield


def lock_shard(collection: Collection, name: str) -> ExitStack | None:
    """Lock a shard in order to make it, unless a living process has locked it.

    Args:
        collection: Whose.
        name: Of what is to be made.

    Returns:
        What releases the lock when closed (a killed process releases it too); None if another holds it.
    """
    return _lock(collection, name, wait=False)


def wait_for_shard_lock(collection: Collection, name: str) -> ExitStack:
    """Lock a shard, or a plan, as soon as no other process holds the lock (see `lock_shard`)."""
    held = _lock(collection, name, wait=True)
    assert held is not None  # noqa: S101 - who waits gets it
    return held


def _lock(collection: Collection, name: str, *, wait: bool) -> ExitStack | None:
    path = collection.root / "_tmp" / f"{name.replace('/', '.')}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with ExitStack() as held:
            file = held.enter_context(path.open("w"))
            if not take_lock(file, path, wait=wait):
                return None
            if _is_at(path, file):  # else its owner removed it between our opening and locking it
                held.callback(path.unlink, missing_ok=True)
                return held.pop_all()


def _is_at(path: Path, file: IO[str]) -> bool:
    """Whether an open file is still the one that the path names."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
