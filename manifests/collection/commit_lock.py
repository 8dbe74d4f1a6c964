"""Several processes on one collection: whose turn it is to commit, and what the killed left behind."""

import fcntl
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from impure.manifests.base.files import blaming
from impure.manifests.collection.collection import Collection

_ASIDE = re.compile(r".+\.[0-9a-f]{32}")


@contextmanager
def commit_lock(collection: Collection) -> Iterator[None]:
    """Hold the collection's lock: one process at a time; a killed one lets go of it."""
    folder = collection.root / "_tmp"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "commit.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def temp_dir(collection: Collection, name: str) -> Iterator[Path]:
    """A folder of one's own below `_tmp`, gone afterwards; a lock tells the living from the killed.

    Args:
        collection: Whose.
        name: What is built there, for people who look; its slashes become dots.
    """
    folder = collection.root / "_tmp" / f"{name.replace('/', '.')}.{uuid.uuid4().hex}"
    with commit_lock(collection):  # no sweep may see the folder before its lock is held
        folder.mkdir()
        lock = (folder / "alive.lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        with lock, blaming(collection.root):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(collection: Collection) -> None:
    """Remove what killed processes left below `_tmp`; folders of living ones stay."""
    with commit_lock(collection):
        for folder in (collection.root / "_tmp").iterdir():
            if not _is_alive(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_alive(folder: Path) -> bool:
    """Whether a folder below `_tmp` is in use, or none of ours.

    One of our folders without its lock is dead: killed while it was made or while it was removed.
    """
    try:
        with (folder / "alive.lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except FileNotFoundError:
        return not _ASIDE.fullmatch(folder.name)
    except OSError:  # held by a living process, or no folder
        return True
