"""What a run foresees, shows, takes and survives: forecasts, figures, memory, disks, failures, neighbours."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time

import pytest

from impure.manifests.checks.verify import verify
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.shard_id import ShardId
from impure.pipeline.generation import attack_batches as pairs
from impure.pipeline.generation.events import (
    ATTACK,
    DECODE,
    ENCODE,
    STAGES,
    VERDICT,
    ShardCommitted,
    ShardFailed,
    ShardLocked,
    ShardProgress,
    ShardStarted,
    ShardTask,
    StageTime,
    TaskFinished,
)
from impure.pipeline.generation.progress import ProgressBar
from tests.common import hashes, one_line, stamps


def arguments(imagenet, card, root, *more):
    return (
        "generate", "--images", imagenet, "--target", card, "--attack", "fgsm,pgd", "--split", "train",
        "--per-class", 4, "--shard-size", 3, "--batch-size", 3, "--threads", 1, "--out", root, *more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def calm(imagenet, card, run, tmp_path_factory):
    """The root of an undisturbed run: eight shards; not to be changed."""
    root = tmp_path_factory.mktemp("calm") / "root"
    made = run("data", *arguments(imagenet, card, root))
    assert made.exit_code == 0, made.output
    return root


# --- --dry-run ---


def test_a_dry_run_foretells_and_writes_plans_alone(imagenet, card, calm, run, tmp_path):
    foretold = run("data", *arguments(imagenet, card, tmp_path / "root", "--dry-run", "--json"))
    assert foretold.exit_code == 0, foretold.output
    document = json.loads(foretold.stdout)
    assert document["out"] == str(tmp_path / "root")
    assert [document[name] for name in ("images", "attacks", "pairs", "shards")] == [12, 2, 24, 8]
    assert 0 < document["hours_at_most"] < 1
    stored = sum(path.stat().st_size for path in (calm / "small").rglob("*.*"))
    assert stored <= document["gib_at_most"] * 2**30 < 10 * stored
    assert stamps(tmp_path / "root").keys() == {"collection.json", "plans/small-train.parquet"}
    again = run("data", *arguments(imagenet, card, tmp_path / "root", "--dry-run"))
    assert again.exit_code == 0, again.output
    assert "images 12, attacks 2, pairs 24, shards 8, gib_at_most 0.000" in again.stdout
    made = run("data", *arguments(imagenet, card, tmp_path / "root"))
    assert made.exit_code == 0, made.output
    assert hashes(tmp_path / "root") == hashes(calm)


def test_swapped_plans_of_two_splits_are_refused_before_anything_is_attacked(imagenet, card, run, tmp_path):
    command = [*arguments(imagenet, card, tmp_path), "--split", "val"]
    sampled = [word for word in command if word not in ("--attack", "fgsm,pgd")]
    assert run("data", "sample", *sampled[1:]).exit_code == 0
    paths = [Collection(tmp_path).plan_path("small", split) for split in ("validation", "test")]
    contents = [path.read_bytes() for path in paths]
    for path, content in zip(paths, reversed(contents), strict=True):
        path.write_bytes(content)
    one_line(run("data", *command), r"small-test\.parquet: the plan of another target or split")
    assert not (tmp_path / "small").exists()


def test_a_dry_run_of_clean_once_counts_the_clean_units(imagenet, card, run, tmp_path):
    foretold = run("data", *arguments(imagenet, card, tmp_path, "--clean", "once", "--dry-run", "--json"))
    assert [json.loads(foretold.stdout)[name] for name in ("attacks", "pairs", "shards")] == [3, 36, 12]


# --- the live view ---

FGSM, PGD = ShardId("t", "fgsm", "train", 0), ShardId("t", "pgd", "train", 0)
BOTH = ShardTask("t", "train", 0, ("fgsm", "pgd"), 5)


@pytest.fixture
def view():
    with ProgressBar(10, 2, workers=1, threads=4) as shown:
        yield shown


def tell(view, *events):
    for event in events:
        view(event)


def test_images_of_a_unit_that_is_tried_again_are_not_counted_twice(view):
    tell(view, ShardStarted(FGSM), ShardProgress(FGSM, 3), ShardProgress(FGSM, 5))
    assert view._bar.n == 5
    tell(view, ShardFailed(FGSM, "broken"))
    assert view._bar.n == 0
    tell(
        view,
        TaskFinished(BOTH),
        ShardStarted(FGSM),
        ShardProgress(FGSM, 3),
        ShardLocked(PGD),
        ShardProgress(FGSM, 5),
    )
    tell(
        view, ShardCommitted(FGSM, {}, 1.0, False), ShardProgress(PGD, 5), ShardCommitted(PGD, {}, 1.0, True)
    )
    assert view._bar.n == 10
    assert view.summary().startswith("2/2 shards")


def test_a_unit_that_two_workers_report_counts_once(view):
    tell(
        view,
        ShardProgress(FGSM, 5),
        ShardCommitted(FGSM, {}, 1.0, False),
        ShardProgress(FGSM, 5),
        ShardCommitted(FGSM, {}, 0.0, True),
    )
    assert (view._bar.n, view.summary().split()[0]) == (5, "1/2")


def test_failures_are_told_on_standard_error_alone(capsys):
    with ProgressBar(10, 2, workers=1, threads=4) as view:
        tell(view, ShardFailed(FGSM, "RuntimeError: broken"))
    told = capsys.readouterr()
    assert told.out == ""
    assert "t/fgsm/train/000000: RuntimeError: broken" in told.err


def test_the_limit_is_the_busiest_and_attack_and_verdict_share_the_device(view):
    tell(view, StageTime(ENCODE, 16.0))  # of four threads
    assert view.limit() == ENCODE
    tell(view, StageTime(ATTACK, 3.0))
    assert view.limit() == ENCODE
    tell(view, StageTime(VERDICT, 2.0))
    assert view.limit() == ATTACK
    tell(view, StageTime(DECODE, 21.0))
    assert view.limit() == DECODE
    busy = view.busy()
    assert list(busy) == list(STAGES)
    assert busy[DECODE] / busy[ATTACK] == pytest.approx(21 / 4 / 3)
    assert "limited by decode" in view.summary()


def test_shares_are_of_all_threads_and_workers():
    with ProgressBar(None, 1, workers=2, threads=8) as view:
        view._started_at = time.perf_counter() - 10
        tell(view, StageTime(ATTACK, 10.0), StageTime(DECODE, 40.0))
        assert view.busy()[ATTACK] == pytest.approx(0.5, rel=0.05)
        assert view.busy()[DECODE] == pytest.approx(0.5, rel=0.05)


def test_a_run_reports_where_its_time_went(imagenet, card, run, tmp_path):
    made = run("data", *arguments(imagenet, card, tmp_path, "--json"))
    document = json.loads(made.stdout)
    assert list(document["busy"]) == list(STAGES)
    assert all(0 < share <= 1 for share in document["busy"].values())
    assert document["limited_by"] in STAGES
    assert "24/24" in made.stderr


# --- memory ---

PEAK = """
import resource, sys
from impure.cli import data
try:
    data(sys.argv[1:])
except SystemExit as ended:
    assert not ended.code
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_collection(tmp_path):
    peaks = []
    for per_class in (1, 100):
        given = ("generate", "--attack", "fgsm", "--split", "train", "--per-class", per_class,
            "--shard-size", 500, "--out", tmp_path / str(per_class))  # fmt: skip
        done = subprocess.run([sys.executable, "-c", PEAK, *map(str, given)], capture_output=True, text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)  # fmt: skip
        peaks.append(int(done.stdout.splitlines()[-1]))
    assert peaks[1] <= 1.1 * peaks[0], f"{peaks} KiB"


# --- disks ---


@pytest.fixture
def disk(tmp_path):
    """Mounts a small disk of its own, or mounts it anew with other options."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options):
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True)
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.decode().strip()}")
        return place

    yield mount
    subprocess.run(["umount", "--lazy", place], capture_output=True)  # a traceback may hold a file open


def half_made(root):
    """What is wrong with what readers see; that shards are still missing is not."""
    found = verify(Collection(root), "decode") if (root / "collection.json").exists() else []
    return [each for each in found if "not committed" not in each.problem]


@pytest.mark.parametrize("share", [0.02, 0.3, 0.8])
def test_a_disk_that_fills_up_is_named_and_the_same_command_goes_on_when_there_is_room(
    share, imagenet, card, calm, run, disk
):
    bytes_needed = sum(path.stat().st_size for path in calm.rglob("*") if path.is_file())
    place = disk(f"size={int(share * bytes_needed)}")
    given = ("data", *arguments(imagenet, card, place / "root"))
    for _ in range(2):  # and again while it is full
        one_line(run(*given), rf"{place}/\S*: .*No space left on device")
        assert half_made(place / "root") == []
        assert len(Collection(place / "root").marked()) < 8
    disk("remount,size=64m")
    made = run(*given)
    assert made.exit_code == 0, made.output
    assert hashes(place / "root") == hashes(calm)
    assert verify(Collection(place / "root"), "decode") == []
    assert not [path for path in (place / "root" / "_tmp").iterdir() if path.is_dir()]


@pytest.mark.slow
def test_a_disk_that_fills_up_under_workers_is_named_too(imagenet, card, calm, disk):
    place = disk("size=150k")
    given = arguments(imagenet, card, place / "root", "--executor", "local", "--workers", 2)
    done = subprocess.run(
        [sys.executable, "-c", RUN, *map(str, given)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error:")]
    assert len(errors) == 1
    assert str(place) in errors[0]
    assert "No space left" in errors[0]
    assert "Traceback" not in done.stderr
    assert half_made(place / "root") == []


def test_a_disk_that_cannot_be_written_is_one_clear_line_and_can_be_read(
    imagenet, card, calm, run, disk, tmp_path
):
    place = disk("size=64m")
    shutil.copytree(calm, place / "root", ignore=shutil.ignore_patterns("_tmp"))
    disk("remount,ro")
    read_only = rf"{place}/\S*: .*Read-only file system"
    one_line(run("data", *arguments(imagenet, card, place / "root")), read_only)
    one_line(run("data", *arguments(imagenet, card, place / "new")), read_only)
    one_line(run("data", "sample", "--split", "train", "--out", place / "root"), read_only)
    one_line(run("data", "card", place / "root"), read_only)
    one_line(run("data", "pull", f"file://{calm}", place / "root"), read_only)
    one_line(run("data", "merge", place / "root", calm), read_only)
    for command in ("status", "ls", "verify"):
        assert run("data", command, place / "root").exit_code == 0
    drawn = run("data", "preview", place / "root", "--out", tmp_path / "sheet.png")
    assert drawn.exit_code == 0, drawn.output
    one_line(run("data", "preview", place / "root"), read_only)


# --- shards that fail, and neighbours ---


def test_a_unit_that_fails_three_times_costs_only_itself(imagenet, card, calm, run, tmp_path, monkeypatch):
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


def test_a_unit_that_fails_once_is_made_in_the_end(imagenet, card, calm, run, tmp_path, monkeypatch):
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


RUN = "import sys; from impure.cli import data; data(sys.argv[1:])"


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
def test_a_unit_that_another_process_holds_is_left_for_last(killed, imagenet, card, calm, run, tmp_path):
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
