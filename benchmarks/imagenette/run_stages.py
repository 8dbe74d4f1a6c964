"""Runs a stage as a process of its own, and keeps a record of every run."""

import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import IO, TypedDict

import click
from stages import Stage

HERE = Path(__file__).parent
ENTRY_POINTS = {"impure-data": "data", "impure-train": "train", "impure-eval": "evaluate"}
OUT_OF_TIME = 124  # as timeout(1) has it
SHORTFALL = 3  # exit code: done, but for something that was said


class Run(TypedDict):
    """One run of a stage."""

    stage: str
    command: str
    begun: str
    seconds: float
    code: int
    looks: bool


class Runs:
    """All runs so far, in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.all = self._read()
        self._lock = Lock()

    def _read(self) -> list[Run]:
        """All that stand in the file."""
        runs: list[Run] = json.loads(self.path.read_text()) if self.path.exists() else []
        return runs

    def add(self, run: Run) -> None:
        """Add a run to those that are there by now; the file is replaced as a whole."""
        with self._lock:
            self.all = [*self._read(), run]
            temporary = self.path.with_suffix(".tmp")
            temporary.write_text(json.dumps(self.all, indent=1) + "\n")
            temporary.replace(self.path)

    def of(self, stage: Stage) -> list[Run]:
        """Those of a stage with its present command."""
        return [run for run in self.all if (run["stage"], run["command"]) == (stage.name, shown(stage))]


def shown(stage: Stage) -> str:
    """The command as it is typed."""
    return shlex.join(stage.command)


def done(stage: Stage, runs: Runs) -> bool:
    """Whether it was finished with this command, and after all that it needs."""
    last = {run["stage"]: place for place, run in enumerate(runs.all) if run["code"] in (0, SHORTFALL)}
    mine = last.get(stage.name, -1)
    same = mine >= 0 and runs.all[mine]["command"] == shown(stage)
    return same and all(last.get(name, -1) < mine for name in stage.needs)


def to_do(planned: Sequence[Stage], runs: Runs) -> list[Stage]:
    """The stages that are not done, and those that need one of them."""
    left: dict[str, Stage] = {}
    for stage in planned:
        if not done(stage, runs) or left.keys() & set(stage.needs):
            left[stage.name] = stage
    return list(left.values())


def run_all(
    planned: Sequence[Stage], jobs: int, run: Callable[[Stage], bool], after_each: Callable[[], None]
) -> int:
    """Run stages, as many as `jobs` at once, each after all that it needs, the first ones first.

    Returns how many of them failed, as `run` says; `after_each` is called whenever one has ended.
    """
    waiting, failed = list(planned), 0
    running: dict[Future[bool], Stage] = {}
    with ThreadPoolExecutor(jobs) as pool:
        while waiting or running:
            unfinished = {stage.name for stage in (*waiting, *running.values())}
            ready = [stage for stage in waiting if not unfinished & set(stage.needs)]
            for stage in ready[: jobs - len(running)]:
                waiting.remove(stage)
                running[pool.submit(run, stage)] = stage
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            failed += sum(future.result() for future in ended)
            running = {future: stage for future, stage in running.items() if future not in ended}
            after_each()
    return failed


def run_stage(stage: Stage, runs: Runs, out: Path, seconds_left: float) -> bool:
    """Run a stage and record it; returns whether it failed, had no time, or what it needs is missing."""
    finished = {run["stage"] for run in runs.all if run["code"] in (0, SHORTFALL)}
    if missing := [name for name in stage.needs if name not in finished]:
        click.echo(f"{stage.name}: left out, as {', '.join(missing)} failed or is no stage")
        return True
    if stage.fresh is not None:
        shutil.rmtree(stage.fresh, ignore_errors=True)
    log = out / "logs" / f"{stage.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    begun, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    click.echo(f"{begun} {stage.name}: {shown(stage)}")
    with log.open("ab") as file:
        code = _exit_code(stage.command, file, seconds_left)
    seconds = round(time.monotonic() - clock, 1)
    click.echo(f"  exit code {code} after {seconds} s" + ("" if code in (0, SHORTFALL) else f"; see {log}"))
    runs.add(
        Run(
            stage=stage.name, command=shown(stage), begun=begun, seconds=seconds, code=code, looks=stage.looks
        )
    )
    return code not in (0, SHORTFALL)


def _exit_code(command: Sequence[str], log: IO[bytes], seconds_left: float) -> int:
    """Run a command; what takes too long is killed, which the product survives."""
    try:
        timeout = None if seconds_left == math.inf else max(seconds_left, 0)
        return subprocess.run(
            _process(command), stdout=log, stderr=log, env=_environment(), timeout=timeout, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        return OUT_OF_TIME


def _process(command: Sequence[str]) -> list[str]:
    """A command by this interpreter, so that the product need not be installed."""
    program, *options = command
    if program in ENTRY_POINTS:
        name = ENTRY_POINTS[program]
        return [sys.executable, "-c", f"from impure.cli import {name}; {name}()", *options]
    return [sys.executable, str(HERE / program), *options]


def _environment() -> dict[str, str]:
    """With the package of this checkout."""
    paths = [str(HERE.parents[1] / "src"), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
