"""Write files so that they appear whole or not at all, and read what others wrote within limits."""

import contextlib
import errno
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from impure.manifests.base.canonical_json import parse_object
from impure.manifests.base.errors import InputError, WriteError, first_line

MAX_JSON = 1 << 24
"""Bytes of JSON in a stranger's file."""

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO)  # what disks are to blame for
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


@contextlib.contextmanager
def disk_errors_named(path: Path) -> Iterator[None]:
    """Name a path where the operating system says without a file name that a disk is full, or broken.

    Raises:
        OSError: As raised in the block, with a file name.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno not in _DISK:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


@contextlib.contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Hand out a temporary path beside `final`; fsync and rename it there when the block succeeds.

    The temporary name ends in `.tmp`, which no reader takes for data. A failed block leaves nothing.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex}.tmp")
    try:
        with disk_errors_named(final):
            yield temporary
            move_into_place(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)


def move_into_place(finished: Path, final: Path) -> None:
    """Rename a finished file to `final`, on the same file system, over what is there.

    Its content is on the disk before the name is, and the name is before the call returns: whatever is
    written afterwards never survives a power cut that the file did not survive.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    sync(finished)
    os.replace(finished, final)
    sync(final.parent)


@contextlib.contextmanager
def writing(path: Path, remedy: str = "", also: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Tell in one line that `path` cannot be written, where the block fails to.

    Args:
        path: The file or folder, for the message.
        remedy: What helps, for the message.
        also: Errors beside OSError by which a library says that it cannot write.

    Raises:
        WriteError: The block raised an OSError, or one of `also`.
    """
    failures: tuple[type[Exception], ...] = (OSError, *also)
    try:
        yield
    except failures as error:
        reason = (isinstance(error, OSError) and error.strerror) or first_line(error)
        raise WriteError(f"{path}: cannot be written ({reason}){'; ' * bool(remedy)}{remedy}") from error


def sync(path: Path) -> None:
    """Push a file's (or a folder's) content from the page cache to the disk.

    Some disks refuse that for folders (CIFS, some FUSE): there the names are as safe as the disk makes them.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def forget(file: BinaryIO) -> None:
    """Drop a file from the page cache, where the system can, so that it is read from the disk."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def write_text(path: Path, text: str) -> Path:
    """Write one file as a whole, in UTF-8.

    Raises:
        WriteError: It cannot be written.
    """
    with writing(path), atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON object.

    Raises:
        InputError: The file cannot be read, is larger than `MAX_JSON`, or see `parse_object`.
    """
    return parse_object(read_within(path, MAX_JSON), str(path))


def read_within(path: Path, most: int) -> bytes:
    """Read a file that may be a stranger's.

    Raises:
        InputError: It cannot be read, or has more than `most` bytes.
    """
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    if len(content) > most:
        raise InputError(f"{path}: has more than {most} bytes")
    return content


def sha256_file(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
