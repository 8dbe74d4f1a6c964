"""Killed with SIGKILL at any moment, in the middle of a file too, and run by two at once: the same table."""

import json
import multiprocessing
import os
import random
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from impure.cli import data, evaluate
from impure.manifests.base import files
from impure.purifier.evaluation.adaptive import cells

WORDS = (
    "--defence gaussian-noise --images 4 --batch-size 2 --steps 2 --eot 1 --samples 2 --eps 16 --device cpu"
)
HEAVY = [
    "impure.pipeline.targets.of_collection",
    "impure.purifier.commands.evaluate.adaptive_command",
    "impure.purifier.defences.defence_registry",
    "impure.purifier.evaluation.adaptive.adaptive_report",
    "impure.purifier.evaluation.adaptive.run_adaptive",
    "impure.purifier.evaluation.reports.document_page",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kill") / "pairs"
    words = f"generate --attack fgsm --split val --per-class 1 --device cpu --out {root}"
    made = CliRunner().invoke(data, words.split())
    assert made.exit_code == 0, made.output
    return root


def attack(root: Path, out: Path, dies_at: int = 0) -> None:
    """The command; it may kill itself when so many files were written, the last one half."""
    place, written = files.move_into_place, 0

    def half(finished: Path, final: Path) -> None:
        nonlocal written
        written += 1
        if written == dies_at:
            os.truncate(finished, finished.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        place(finished, final)

    files.move_into_place = half
    cells.EOT_LEVELS, cells.EPS_LEVELS, cells.PROBE_QUERIES = (1, 3), (cells.LARGE_EPS,), 25  # less to do
    evaluate(["adaptive", *WORDS.split(), "--threads", "1", "--shards", str(root), "--out", str(out)])


def start(*words: object) -> BaseProcess:
    """A process of its own, forked from one that has imported what is heavy."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(HEAVY)
    process = context.Process(target=attack, args=words)
    process.start()
    return process


def finish(process: BaseProcess) -> None:
    process.join(200)
    assert process.exitcode in (0, 3)  # so few images may fail a check


def died(process: BaseProcess) -> None:
    process.join(200)
    assert process.exitcode == -signal.SIGKILL


def batches(out: Path) -> set[str]:
    return {str(path.relative_to(out)) for path in out.rglob("batch-*.parquet")}


def per_image(out: Path) -> dict[str, pa.Table]:
    """All rows by file; the time differs."""
    return {name: pq.read_table(out / name).drop_columns(["seconds"]) for name in sorted(batches(out))}


def table(out: Path) -> tuple[Any, ...]:
    """What the report says; the time differs."""
    document = json.loads((out / "adaptive.json").read_text())
    rows = [{**row, "seconds": 0} for row in document["rows"]]
    return rows, document["defences"], {**document["conditions"], "date": ""}


@pytest.mark.slow
def test_killed_at_any_moment_and_two_at_once(root: Path, tmp_path: Path) -> None:
    whole, both, killed = tmp_path / "whole", tmp_path / "both", tmp_path / "killed"
    for process in [start(root, out) for out in (whole, both, both)]:
        finish(process)
    assert table(both) == table(whole)
    assert per_image(both) == per_image(whole)

    died(start(root, killed, 3))
    assert len(batches(killed)) == 2
    moments = random.Random(0)
    for _ in range(4):
        wanted = len(batches(killed)) + moments.randint(1, len(batches(whole)) // 6)
        process = start(root, killed)
        while len(batches(killed)) < wanted and process.is_alive():
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.02))
        process.kill()
        died(process)
    missing = batches(whole) - batches(killed)
    assert missing
    died(start(root, killed, len(missing) + 3))  # the report's third file is its JSON
    assert batches(killed) == batches(whole) and not (killed / "adaptive.json").exists()
    finish(start(root, killed))
    assert table(killed) == table(whole)
    assert per_image(killed) == per_image(whole)
