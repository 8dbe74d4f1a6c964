"""Killed with SIGKILL and started again, a run ends with the same bits: with workers, and under torchrun."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


def command(ranks: int, workers: int, root: Path, out: Path) -> list[str]:
    options = (
        f"--model tiny --epochs 12 --batch-size 8 --validate none --model-ema-decay 0.9 --workers {workers}"
    )
    train = [str(BIN / "impure-train"), "--shards", str(root), *options.split(), "--out", str(out)]
    train += ["--threads", "1"]
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), "--no-python"]
    return train if ranks == 1 else [sys.executable, "-m", *launch, *train]


def start(words: list[str]) -> "subprocess.Popen[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        words, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        env=environment,
    )  # fmt: skip


def rows(out: Path) -> list[list[str]]:
    """Epoch, step and losses; the speed differs."""
    if not (out / "log.csv").exists():
        return []
    with (out / "log.csv").open(newline="") as file:
        return [row[:6] for row in csv.reader(file)][1:]


def kill(out: Path) -> None:
    """Kill whoever has the run's folder on its command line: torchrun, its ranks, and their workers."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.fsencode(out) in (entry / "cmdline").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            continue  # gone already


def finish(process: "subprocess.Popen[str]") -> None:
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "workers"), [(1, 2), (2, 1), (3, 0)])
def test_killed_and_resumed(collection_root: Path, tmp_path: Path, ranks: int, workers: int) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(command(ranks, workers, collection_root, whole)))
    for epochs in (2, 5):
        process = start(command(ranks, workers, collection_root, killed))
        while len(rows(killed)) < epochs and process.poll() is None:
            time.sleep(0.02)
        kill(killed)
        process.communicate()
        assert process.returncode == -signal.SIGKILL and len(rows(killed)) < 12
    finish(start(command(ranks, workers, collection_root, killed)))
    names = ("model.safetensors", "config.json")
    assert all((whole / name).read_bytes() == (killed / name).read_bytes() for name in names)
    assert rows(whole) == rows(killed) and len(rows(whole)) == 12


@pytest.mark.slow
def test_two_ranks_learn_what_one_learns_in_two_parts(collection_root: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    finish(start([*command(1, 0, collection_root, one), "--grad-accum-steps", "2"]))
    finish(start(command(2, 0, collection_root, two)))
    assert [row[:2] for row in rows(one)] == [row[:2] for row in rows(two)]
    for mine, theirs in zip(rows(one), rows(two), strict=True):
        assert [float(each) for each in mine] == pytest.approx([float(each) for each in theirs], rel=1e-4)


@pytest.mark.slow
def test_more_ranks_than_a_batch_has_pairs(collection_root: Path, tmp_path: Path) -> None:
    words = command(2, 0, collection_root, tmp_path / "run")
    words[words.index("--batch-size") + 1] = "1"
    process = start(words)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "batch size 1 cannot be divided: more ranks than images" in errors
    assert not (tmp_path / "run" / "config.json").exists()
