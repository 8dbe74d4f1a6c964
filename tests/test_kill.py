"""Killed at any instant, a collection ends as if nothing had happened.

`IMPURE_KILLS` says how often each executor is hit by SIGKILL; the slow tests' default is small.
"""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from impure import cli
from impure.manifests.checks.verify import verify
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.temp_dirs import sweep

RUN = "import sys; from impure.cli import data; data(sys.argv[1:])"
KILLS = int(os.environ.get("IMPURE_KILLS", 6))
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["impure.cli", "impure.pipeline.executors"])


def arguments(imagenet, card, root, *more):
    given = [
        *("generate", "--images", imagenet, "--target", card, "--attack", "pgd,apgd-ce", "--split", "train"),
        *("--per-class", 8, "--shard-size", 3, "--batch-size", 3, "--threads", 1, "--out", root, *more),
    ]
    return [str(each) for each in given]


def hashes(root):
    rows = [row for shard in Collection(root).committed for row in shard.rows()[0].to_pylist()]
    assert len({row["key"] for row in rows}) == len(rows), "a sample stands there twice"
    return {row["key"]: (row["clean_px_sha256"], row["adv_px_sha256"]) for row in rows}


def half_made(root):
    """What is wrong with what readers see; that shards are still missing is not."""
    found = verify(Collection(root), "decode") if (root / "collection.json").exists() else []
    return [each for each in found if "not committed" not in each.problem]


@pytest.fixture(scope="module")
def calm(imagenet, card, tmp_path_factory):
    """Pixel hashes of an undisturbed run."""
    root = tmp_path_factory.mktemp("calm")
    with pytest.raises(SystemExit) as ended:
        cli.data(arguments(imagenet, card, root))
    assert ended.value.code == 0
    return hashes(root)


def check(root, calm):
    assert hashes(root) == calm
    assert Collection(root).missing() == []
    assert verify(Collection(root), "decode") == []
    sweep(Collection(root))
    assert not [path for path in root.glob("_tmp/*") if path.is_dir()]
    assert all(log.read_text().endswith("\n") for log in root.glob("_logs/*.log"))


def kill_inline(imagenet, card, root, kills, chance):
    """Kill whole runs, each after a moment, until so many are dead."""
    dead = 0
    while dead < kills:
        code = f"from impure.cli import data; data({arguments(imagenet, card, root)})"
        process = FORK.Process(target=exec, args=(code,))
        process.start()
        process.join(chance.random() * 1.5)
        process.kill()
        process.join()
        dead += process.exitcode == -signal.SIGKILL
        assert half_made(root) == []
        if process.exitcode == 0:  # everything is there: take some of it away
            for shard_id in chance.sample(Collection(root).committed, 8):
                Collection(root).marker_path(shard_id.shard_id).unlink()


@pytest.mark.parametrize("kills", [3, pytest.param(KILLS, marks=pytest.mark.slow)])
def test_killed_runs_leave_nothing_half_made(kills, imagenet, card, tmp_path, calm):
    kill_inline(imagenet, card, tmp_path, kills, random.Random(0))
    assert subprocess.run([sys.executable, "-c", RUN, *arguments(imagenet, card, tmp_path)]).returncode == 0
    check(tmp_path, calm)


def children(pid):
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout
    return [int(each) for each in found.split()]


def command_line(pid):
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def local_workers(pid):
    servers = [child for child in children(pid) if "forkserver" in command_line(child)]
    return [worker for server in servers for worker in children(server)]


def ray_workers(pid):
    everyone = [pid]
    for each in everyone:
        everyone += children(each)
    return [each for each in everyone if command_line(each).startswith("ray::_run_task")]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("executor", "workers"), [(("local", "--workers", 2), local_workers), (("ray",), ray_workers)]
)
def test_killed_workers_are_replaced(executor, workers, imagenet, card, tmp_path, calm):
    chance, dead = random.Random(1), 0
    given = arguments(imagenet, card, tmp_path, "--executor", *executor)
    said = tmp_path.with_name(f"{tmp_path.name}.log")
    while True:
        with said.open("w") as file:
            process = subprocess.Popen([sys.executable, "-c", RUN, *given], stderr=file)
        while process.poll() is None:
            time.sleep(chance.random())
            if dead < KILLS and (alive := workers(process.pid)):
                with suppress(ProcessLookupError):
                    os.kill(chance.choice(alive), signal.SIGKILL)
                    dead += 1
        # 3: some shard was hit three times; on a busy machine workers may be hit before they have begun
        assert process.returncode in (0, 3) or "workers die at their start" in said.read_text()
        assert half_made(tmp_path) == []
        if process.returncode == 0 and dead >= KILLS:
            break
        if process.returncode == 0:
            for shard_id in chance.sample(Collection(tmp_path).committed, 8):
                Collection(tmp_path).marker_path(shard_id.shard_id).unlink()
    check(tmp_path, calm)
