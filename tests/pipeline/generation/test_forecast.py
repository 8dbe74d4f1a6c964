"""What a dry run foretells, and that memory does not grow with the collection."""

import json
import os
import subprocess
import sys

import pytest

from impure.manifests.collection.collection import Collection
from tests.common import one_line, stamps
from tests.pipeline.generation.small_run import arguments


def test_a_dry_run_foretells_and_leaves_nothing_behind(imagenet, card, calm, run, tmp_path):
    foretold = run("data", *arguments(imagenet, card, tmp_path / "root", "--dry-run", "--json"))
    assert foretold.exit_code == 0, foretold.output
    document = json.loads(foretold.stdout)
    assert document["out"] == str(tmp_path / "root")
    assert [document[name] for name in ("images", "attacks", "pairs", "shards")] == [12, 2, 24, 8]
    assert 0 < document["hours_at_most"] < 1
    stored = sum(path.stat().st_size for path in (calm / "small").rglob("*.*"))
    assert stored <= document["gib_at_most"] * 2**30 < 10 * stored
    assert not (tmp_path / "root").exists()


def test_a_dry_run_on_a_collection_counts_its_plan_and_refuses_another(imagenet, card, calm, run):
    before = stamps(calm)
    again = run("data", *arguments(imagenet, card, calm, "--dry-run"))
    assert again.exit_code == 0, again.output
    assert "images 12, attacks 2, pairs 24, shards 8, gib_at_most 0.000" in again.stdout
    more = run("data", *arguments(imagenet, card, calm, "--dry-run", "--per-class", 5))
    one_line(
        more,
        r"per_class \(there 4, now 5\); choose another --out \(a frozen plan does not grow; there the same",
    )
    assert stamps(calm) == before


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


def test_a_dry_run_of_clean_once_counts_the_clean_shards(imagenet, card, run, tmp_path):
    foretold = run("data", *arguments(imagenet, card, tmp_path, "--clean", "once", "--dry-run", "--json"))
    assert [json.loads(foretold.stdout)[name] for name in ("attacks", "pairs", "shards")] == [3, 36, 12]


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
