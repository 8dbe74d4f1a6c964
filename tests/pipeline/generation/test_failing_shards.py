"""Shards that fail, and those that other processes hold, cost only themselves."""

import gc
import json
import shutil
import subprocess
import sys
import threading

import pytest

from impure.manifests.collection.collection import Collection
from impure.manifests.collection.shard_id import ShardId
from impure.pipeline.attacks.engine.threat_model import AttackError
from impure.pipeline.generation import attack_batches as pairs
from tests.common import hashes
from tests.pipeline.generation.small_run import arguments, half_made


def test_a_shard_that_fails_three_times_costs_only_itself(imagenet, card, calm, run, tmp_path, monkeypatch):
    bad = {
        row["source_id"]
        for row in Collection(calm).plans()["small-train"].table.to_pylist()
        if row["shard"] == 1
    }
    original, tries = pairs.attack_batch, []

    def breaks(config, model, clean, labels, ids, seed, **more):
        if config.name == "pgd" and bad & set(ids):
            tries.append(ids)
            raise RuntimeError("cuDNN error: it cannot be said why\nmore")
        return original(config, model, clean, labels, ids, seed, **more)

    monkeypatch.setattr(pairs, "attack_batch", breaks)
    failed = run("data", *arguments(imagenet, card, tmp_path, "--json"))
    assert failed.exit_code == 3, failed.output
    assert len(tries) == 3
    document = json.loads(failed.stdout)
    assert document["failed"] == {
        "small/pgd/train/000001": "RuntimeError: cuDNN error: it cannot be said why"
    }
    assert (document["shards"], document["attacks"]["pgd"]["stored"]) == (7, 9)
    assert "21/24" in failed.stderr
    told = run("data", *arguments(imagenet, card, tmp_path))
    assert told.exit_code == 3
    assert "small/pgd/train/000001 failed three times: RuntimeError: cuDNN error" in told.stdout
    assert len(Collection(tmp_path).marked()) == 7
    assert half_made(tmp_path) == []
    monkeypatch.setattr(pairs, "attack_batch", original)
    mended = run("data", *arguments(imagenet, card, tmp_path))
    assert mended.exit_code == 0, mended.output
    assert hashes(tmp_path) == hashes(calm)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_shard_without_a_sample_is_not_committed_and_stock_readers_read_the_rest(
    imagenet, card, calm, run, tmp_path, monkeypatch
):
    """The first shard of all breaks: globs of tars, as the docs give them, must not meet an empty one."""
    import webdataset

    first = {
        row["source_id"]
        for row in Collection(calm).plans()["small-train"].table.to_pylist()
        if row["shard"] == 0
    }
    original = pairs.attack_batch

    def breaks(config, model, clean, labels, ids, seed, **more):
        if first & set(ids):
            raise AttackError("NaN")
        return original(config, model, clean, labels, ids, seed, **more)

    monkeypatch.setattr(pairs, "attack_batch", breaks)
    made = run("data", *arguments(imagenet, card, tmp_path, "--json"))
    assert made.exit_code == 3, made.output
    wanted = "EmptyShardError: none of its 3 images could be stored (NaN)"
    assert json.loads(made.stdout)["failed"] == {
        "small/fgsm/train/000000": wanted, "small/pgd/train/000000": wanted
    }  # fmt: skip
    tars = sorted(map(str, (tmp_path / "small/fgsm/train").glob("*.tar")))
    assert len(list(webdataset.WebDataset(tars, shardshuffle=False).decode("pil"))) == 9
    gc.collect()  # what the library leaves open must not warn inside another test
    assert half_made(tmp_path) == []
    monkeypatch.setattr(pairs, "attack_batch", original)
    assert run("data", *arguments(imagenet, card, tmp_path)).exit_code == 0
    assert hashes(tmp_path) == hashes(calm)


def test_a_shard_that_fails_once_is_made_in_the_end(imagenet, card, calm, run, tmp_path, monkeypatch):
    original, tries = pairs.attack_batch, []

    def stumbles(*given, **more):
        tries.append(given)
        if len(tries) == 2:
            raise RuntimeError("cuDNN error")
        return original(*given, **more)

    monkeypatch.setattr(pairs, "attack_batch", stumbles)
    made = run("data", *arguments(imagenet, card, tmp_path, "--json"))
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["failed"] == {}
    assert "RuntimeError: cuDNN error" in made.stderr
    assert "24/24" in made.stderr
    assert hashes(tmp_path) == hashes(calm)


def test_readers_do_not_trip_over_what_others_build_aside(calm, tmp_path):
    root = shutil.copytree(calm, tmp_path / "root")
    over = threading.Event()

    def build():
        while not over.is_set():
            (root / "_tmp" / "shard_id" / "deep").mkdir(parents=True)
            (root / "_tmp" / "shard_id" / "deep").rmdir()
            (root / "_tmp" / "shard_id").rmdir()

    builder = threading.Thread(target=build)
    builder.start()
    try:
        for _ in range(100):
            assert len(Collection(root).marked()) == 8
            assert Collection(root).missing() == []
    finally:
        over.set()
        builder.join()


HOLD = """
import os, sys, time
from pathlib import Path
from impure.manifests.collection.shard_lock import lock_shard
from impure.manifests.collection.collection import Collection
collection = Collection(Path(sys.argv[1]))
with lock_shard(collection, sys.argv[2]):
    print("held", flush=True)
    while len(collection.marked()) < 7:
        time.sleep(0.01)
    time.sleep(0.2)
    assert len(collection.marked()) == 7
    if sys.argv[3:]:
        os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("killed", [(), ("killed",)], ids=["lets go", "is killed"])
def test_a_shard_that_another_process_holds_is_left_for_last(killed, imagenet, card, calm, run, tmp_path):
    held = ShardId("small", "fgsm", "train", 0)
    given = [sys.executable, "-c", HOLD, tmp_path, str(held), *killed]
    with subprocess.Popen(given, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        made = run("data", *arguments(imagenet, card, tmp_path, "--json"))
    assert holder.returncode == (-9 if killed else 0)
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["shards"] == 8
    written = {
        shard_id: Collection(tmp_path).marker_path(shard_id).stat().st_mtime
        for shard_id in Collection(tmp_path).marked()
    }
    assert max(written, key=written.__getitem__) == held
    assert hashes(tmp_path) == hashes(calm)
