"""Files appear whole or not at all."""

import contextlib
import errno
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from impure.manifests.base.canonical_json import parse_object
from impure.manifests.base.errors import InputError

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO)  # what disks are to blame for


# What a stranger's file may ask for; a plan of all of ImageNet is a fifth of it.
MAX_JSON = 1 << 24  # bytes


@contextlib.contextmanager
def blaming(path: Path) -> Iterator[None]:
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
        with blaming(final):
            yield temporary
            sync(temporary)
            os.replace(temporary, final)
            sync(final.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Push a file's (or a folder's) content from the page cache to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON object.

    Raises:
        InputError: The file cannot be read, is larger than `MAX_JSON`, or see `parse_object`.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_JSON + 1)
    except OSError as error:
        raise InputError(f"{path}: not a readable JSON file ({error})") from error
    if len(text) > MAX_JSON:
        raise InputError(f"{path}: refused, more than {MAX_JSON} bytes of JSON")
    return parse_object(text, str(path))


def sha256_file(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
