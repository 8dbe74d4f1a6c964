"""A training run's folder: what identifies the run, its lock, and the options it was started with."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from impure.manifests.base.canonical_json import differing_fields, plain
from impure.manifests.base.errors import InputError
from impure.manifests.base.file_lock import take_lock
from impure.manifests.base.files import read_json, write_text, writing
from impure.manifests.base.logs import start_log, stop_log
from impure.purifier.checkpoints.checkpoint import STATE, save_config
from impure.purifier.riae.pretrained import CONFIG, WEIGHTS
from impure.purifier.training.train_config import TrainConfig

OPTIONS = "run.yaml"
LOGS = "logs"  # folder of a log for each rank, made when something fails
IDENTITY = (
    "riae",
    "network",
    "targets",
    "train",
    "data",
    "init",
)  # in config.json: what another run would differ in
SCHEDULE = ("epochs", "warmup_epochs", "lr_cycles")  # in "train": what a longer run of the same may differ in
_WRITTEN = "# What impure-train was asked for; `--config` takes it back.\n"


@contextmanager
def only_trainer(out: Path) -> Iterator[None]:
    """Make a run's folder and lock it: a second process on it would be lost work.

    Raises:
        InputError: Another process trains there.
        WriteError: The folder cannot be made.
    """
    with writing(out, "choose another --out"):
        out.mkdir(parents=True, exist_ok=True)
        folder = os.open(out, os.O_RDONLY)
    try:
        _lock(folder, out)
        for leftover in out.rglob(".*.tmp"):  # of a run that was killed while it wrote
            leftover.unlink()
        yield
    finally:
        os.close(folder)


def _lock(folder: int, out: Path) -> None:
    """Lock a folder; for some seconds, a killed trainer's decoding processes may still hold it."""
    for patience in (*[0.5] * 16, 0):
        if take_lock(folder, out, wait=False):
            return
        time.sleep(patience)
    raise InputError(f"{out}: another process trains there; wait, or take another --out")


@contextmanager
def rank_log(out: Path, rank: int) -> Iterator[None]:
    """Log what goes wrong in this process to `logs/rank-N.log` of the run, with tracebacks.

    After a failure the log stays open, so that the command that reports the failure can write it there.
    """
    start_log(out / LOGS / f"rank-{rank}.log")
    yield
    stop_log()


def open_run(out: Path, config: Mapping[str, Any], options: str = "") -> bool:
    """Begin a run in a folder, or recognise the run that is there, which may have had fewer epochs.

    Args:
        out: The folder.
        config: What `config.json` shall hold; see `describe_run`.
        options: What a new or longer run was asked for; see `keep_options`.

    Returns:
        Whether there is a state to go on from.

    Raises:
        InputError: `out` holds another run.
        WriteError: It cannot be written.
    """
    if not _holds_run(out):
        save_config(out, config)
        keep_options(out / OPTIONS, options)
        return False
    present = read_json(out / CONFIG)
    if extended := _extended(config, present):
        save_config(out, extended)
        keep_options(out / OPTIONS, options)
        present = extended
    _refuse_another(out, config, present)
    return (out / STATE).exists()


def check_run(out: Path, config: Mapping[str, Any]) -> str:
    """What `open_run` would find in a folder, in words; nothing is written.

    Raises:
        InputError: `out` holds another run.
    """
    if not _holds_run(out):
        return "new"
    present = read_json(out / CONFIG)
    extended = _extended(config, present)
    _refuse_another(out, config, extended or present)
    return "goes on with more epochs" if extended else "goes on"


def _holds_run(out: Path) -> bool:
    """Whether there is anything that could be lost."""
    return any((out / name).exists() for name in (STATE, WEIGHTS))


def _refuse_another(out: Path, config: Mapping[str, Any], present: Mapping[str, Any]) -> None:
    """Refuse a folder whose run is another."""
    if differing := _differing(config, present):
        raise InputError(
            f"{out}: holds another run; it differs in {'; '.join(differing)}. Choose another folder"
        )


def _differing(config: Mapping[str, Any], present: Mapping[str, Any]) -> list[str]:
    """In what two runs differ; an option that is younger than a run counts as unset there."""
    ours = {name: config.get(name) for name in IDENTITY}
    theirs = {name: present.get(name) for name in IDENTITY}
    return differing_fields(ours, theirs)


def _extended(config: Mapping[str, Any], present: Mapping[str, Any]) -> dict[str, Any] | None:
    """The config of the run that is there with more epochs, where nothing else differs; else None."""
    before = present.get("train")
    if not isinstance(before, dict):
        return None
    epochs = before.get("epochs")
    if type(epochs) is not int or epochs >= config["train"]["epochs"]:
        return None
    schedule = {name: config["train"][name] for name in SCHEDULE}
    extended = {**present, "train": {**before, **schedule}}
    if _differing(config, extended):
        return None
    return {**extended, "extended_from": [*present.get("extended_from", []), epochs]}


def describe_run(
    config: TrainConfig,
    network: Mapping[str, Any],
    data: Mapping[str, object],
    init: Mapping[str, Any],
) -> dict[str, Any]:
    """What `config.json` holds: the network, the training, the data's identity, the software.

    Args:
        config: The recipe.
        network: What describes the network; see `Objective.describe`.
        data: What identifies the data.
        init: What identifies the weights that the run began with; empty for random ones.
    """
    identity = {**network, "train": asdict(config), "data": data, "init": init}
    return {**plain(identity), "software": {"torch": torch.__version__}}


def keep_options(path: Path, options: str) -> None:
    """Write what a new run was asked for, but never over a file that somebody wrote themselves."""
    ours = not path.exists() or path.read_bytes().startswith(_WRITTEN.encode())
    if options and ours:
        write_text(path, _WRITTEN + options)
