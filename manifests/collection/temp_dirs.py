"""Temporary folders of a collection, and the removal of those that killed processes left behind."""

import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from impure.manifests.base.file_lock import may_be_locked, take_lock
from impure.manifests.base.files import disk_errors_named
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.shard_lock import commit_lock

_LOCK = "alive.lock"
_TEMP_DIR = re.compile(r".+\.[0-9a-f]{32}")


@contextmanager
def temp_dir(collection: Collection, name: str) -> Iterator[Path]:
    """A folder of one's own below `_tmp`, gone afterwards; its lock tells a living process from a killed one.

    Args:
        collection: Whose.
        name: What is built there, for people who look; its slashes become dots.
    """
    folder = collection.root / "_tmp" / f"{name.replace('/', '.')}.{uuid.uuid4().hex}"
    with commit_lock(collection):  # no sweep may see the folder before its lock is held
        folder.mkdir()
        lock = (folder / _LOCK).open("w")
        take_lock(lock, folder / _LOCK)
    try:
        with lock, disk_errors_named(collection.root):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(collection: Collection) -> None:
    """Remove what killed processes left below `_tmp`; folders of living ones stay.

    On a disk without locks all stay, since nobody knows who is alive.
    """
    with commit_lock(collection):
        for folder in (collection.root / "_tmp").iterdir():
            if not _is_in_use(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_in_use(folder: Path) -> bool:
    """Whether a folder below `_tmp` is in use, or none of ours.

    One of our folders without its lock is dead: killed while it was made or while it was removed.
    """
    try:
        return may_be_locked(folder / _LOCK)
    except FileNotFoundError:
        return not _TEMP_DIR.fullmatch(folder.name)
    except NotADirectoryError:
        return True
