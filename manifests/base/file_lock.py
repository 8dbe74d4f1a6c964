"""Locks on files and folders that the operating system releases when a process ends, however it ends.

Some disks know none (Lustre without `flock`, NFS without its lock service, some FUSE): there a process goes
on alone, and says so once.
"""

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from impure.manifests.base.logs import NOTES

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
_noted: set[int] = set()  # disks, by their numbers


def take_lock(file: IO[Any] | int, path: Path, *, wait: bool = True) -> bool:
    """Lock an open file or folder for this process alone, until it is closed.

    Args:
        file: An open file, or the descriptor of one or of a folder.
        path: Its path, for messages.
        wait: Wait until no other process holds the lock.

    Returns:
        Whether this process may go on; without `wait` another may hold the lock. A disk without locks
        refuses nobody.

    Raises:
        OSError: It cannot be locked, for another reason; with the path.
    """
    return _flock(file, path, wait=wait) is not False


def may_be_locked(path: Path) -> bool:
    """Whether another process may hold the lock of a file; nobody knows on a disk without locks.

    Raises:
        OSError: See `take_lock`, or there is no such file.
    """
    with path.open("r+") as file:
        return _flock(file, path, wait=False) is not True


@contextmanager
def file_lock(path: Path) -> Iterator[bool]:
    """Hold the lock of a file, which is made where it is missing and stays; waits for whoever holds it.

    Yields:
        Whether it is held; False on a disk without locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        yield _flock(file, path, wait=True) is True


def _flock(file: IO[Any] | int, path: Path, *, wait: bool) -> bool | None:
    """Lock an open file: whether it is locked now; None where its disk knows no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise OSError(error.errno, error.strerror, str(path)) from error
        _note_once(path if path.is_dir() else path.parent, error.strerror)
        return None
    return True


def _note_once(folder: Path, reason: str | None) -> None:
    """Tell whoever watches that nothing keeps other processes away; once for each disk."""
    device = folder.stat().st_dev
    if device not in _noted:
        _noted.add(device)
        NOTES.warning(
            "%s: its disk knows no file locks (%s), so this goes on without; "
            "let no other process write there meanwhile",
            folder,
            reason,
        )
