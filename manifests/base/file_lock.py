"""Locks on files and folders that the operating system releases when a process ends, however it ends."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


def take_lock(file: IO[Any] | int, *, wait: bool = True) -> bool:
    """Lock an open file or folder for this process alone, until it is closed.

    Args:
        file: An open file, or the descriptor of one or of a folder.
        wait: Wait until no other process holds the lock.

    Returns:
        Whether it is locked now; without `wait` another process may hold it.

    Raises:
        OSError: The file system knows no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which is made where it is missing and stays; waits for whoever holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        take_lock(file)
        yield
