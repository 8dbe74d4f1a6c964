"""Killed in the middle of generation and started again, a collection ends as if nothing had happened."""

import os
import random
import signal
import subprocess
import sys
import time

from impure.manifests.collection import Collection
from impure.manifests.verify import verify
from impure.pipeline.shards import sweep

RUN = "import sys; from impure.cli import data; data(sys.argv[1:])"


def start(imagenet, card, root):
    arguments = [
        "generate", "--images", imagenet, "--target", card, "--attack", "fgsm,pgd", "--split", "train",
        "--per-class", 8, "--shard-size", 3, "--batch-size", 3, "--threads", 1, "--out", root,
    ]  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-c", RUN, *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def hashes(root):
    rows = [row for unit in Collection(root).committed for row in unit.rows()[0].to_pylist()]
    assert len({row["key"] for row in rows}) == len(rows), "a sample stands there twice"
    return {row["key"]: (row["clean_px_sha256"], row["adv_px_sha256"]) for row in rows}


def test_sigkill_and_resume_give_the_same_pixels(imagenet, card, tmp_path):
    assert start(imagenet, card, tmp_path / "calm").wait() == 0
    calm, root = hashes(tmp_path / "calm"), tmp_path / "killed"
    chance, kills = random.Random(0), 0
    while kills < 3:
        process = start(imagenet, card, root)
        while process.poll() is None and not list(root.glob("_tmp/*/*")):
            time.sleep(0.005)
        time.sleep(chance.random() / 10)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        assert [
            each for each in verify(Collection(root), "decode") if "not committed" not in each.problem
        ] == [], "a reader saw a half-made unit"
        if process.returncode == 0:
            break
    assert start(imagenet, card, root).wait() == 0
    assert kills
    assert hashes(root) == calm
    assert Collection(root).missing() == []
    sweep(Collection(root))
    assert not list(root.glob("_tmp/*/*"))
