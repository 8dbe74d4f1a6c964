"""A training run's folder: made, recognised, locked."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from impure.manifests.base.canonical_json import differing_fields
from impure.manifests.base.errors import InputError
from impure.manifests.base.file_lock import take_lock
from impure.manifests.base.files import read_json, writing
from impure.purifier.checkpoints.checkpoint import STATE, save_config
from impure.purifier.riae.pretrained import CONFIG, WEIGHTS


@contextmanager
def only_trainer(out: Path) -> Iterator[None]:
    """Make a run's folder and hold it: a second process on it would be lost work.

    Raises:
        InputError: Another process trains there.
        WriteError: The folder cannot be made.
    """
    with writing(out, "choose another --out"):
        out.mkdir(parents=True, exist_ok=True)
        folder = os.open(out, os.O_RDONLY)
    try:
        _lock(folder, out)
        for left in out.rglob(".*.tmp"):  # of a run that was killed while it wrote
            left.unlink()
        yield
    finally:
        os.close(folder)


def _lock(folder: int, out: Path) -> None:
    """Lock a folder; for some seconds, a killed trainer's decoding processes may still hold it."""
    for patience in (*[0.5] * 16, 0):
        if take_lock(folder, wait=False):
            return
        time.sleep(patience)
    raise InputError(f"{out}: another process trains there; wait, or take another --out")


def open_run(out: Path, config: Mapping[str, Any]) -> bool:
    """Make a run's folder, or recognise the run that is there.

    Returns:
        Whether there is a state to go on from.

    Raises:
        InputError: `out` holds another run.
        WriteError: It cannot be written.
    """
    if not any((out / name).exists() for name in (STATE, WEIGHTS)):  # nothing there that could be lost
        save_config(out, config)
        return False
    found = read_json(out / CONFIG)
    parts = ("riae", "train", "data", "init")
    ours, theirs = ({part: each.get(part) for part in parts} for each in (config, found))
    if differing := differing_fields(ours, theirs):
        raise InputError(
            f"{out}: holds another run; it differs in {'; '.join(differing)}. Choose another folder"
        )
    return (out / STATE).exists()
