import json
import os
import subprocess
import sys
import threading
import time

import pytest

from impure.manifests.base.errors import InputError
from impure.manifests.checks.verify import verify
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.shard_id import ShardId
from impure.manifests.collection.shard_lock import lock_shard, wait_for_shard_lock
from impure.pipeline.executors.execute import EXECUTORS
from impure.pipeline.executors.executor_config import EXECUTOR_NAMES
from impure.pipeline.executors.rank import rank_of, tasks_of_rank
from impure.pipeline.generation.events import ShardTask
from tests.common import hashes

RUN = "import sys; from impure.cli import data; data(sys.argv[1:])"


def arguments(imagenet, card, root, *more):
    return [
        "generate", "--images", imagenet, "--target", card, "--attack", "fgsm,pgd", "--split", "train",
        "--per-class", 4, "--shard-size", 3, "--batch-size", 3, "--threads", 1, "--json", "--out", root,
        *more,
    ]  # fmt: skip


def start(*given, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", RUN, *map(str, given)], env={**os.environ, **environment}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.fixture(scope="module")
def calm(imagenet, card, run, tmp_path_factory):
    """Pixel hashes of an undisturbed run in one process."""
    root = tmp_path_factory.mktemp("calm")
    made = run("data", *arguments(imagenet, card, root))
    assert made.exit_code == 0, made.output
    return hashes(root)


def test_local_workers_make_the_same_pixels(imagenet, card, tmp_path, calm):
    process = start(*arguments(imagenet, card, tmp_path, "--executor", "local", "--workers", 2))
    out, error = process.communicate()
    assert process.returncode == 0, error
    assert json.loads(out)["shards"] == 8
    assert hashes(tmp_path) == calm


@pytest.mark.slow
@pytest.mark.parametrize("executor", [("ray",), ("slurm", "--submit", "cluster=local", "--workers", "2")])
def test_ray_and_slurm_make_the_same_pixels(executor, imagenet, card, tmp_path, calm):
    process = start(*arguments(imagenet, card, tmp_path, "--executor", *executor))
    out, error = process.communicate()
    assert process.returncode == 0, error
    assert json.loads(out)["shards"] == 8
    assert hashes(tmp_path) == calm
    assert verify(Collection(tmp_path), "decode") == []


def test_ranks_share_the_work_and_torchruns_variables_name_them(imagenet, card, run, tmp_path, calm):
    first = run("data", *arguments(imagenet, card, tmp_path, "--executor", "rank", "--worker", "0/2"))
    assert first.exit_code == 0, first.output
    assert json.loads(first.stdout)["shards"] == 4
    second = start(
        *arguments(imagenet, card, tmp_path, "--executor", "rank"), RANK="1", WORLD_SIZE="2"
    )  # fmt: skip
    assert json.loads(second.communicate()[0])["shards"] == 4
    assert hashes(tmp_path) == calm


def test_two_processes_at_once_make_every_shard_once(imagenet, card, tmp_path, calm):
    both = [start(*arguments(imagenet, card, tmp_path)) for _ in range(2)]
    documents = []
    for process in both:
        out, error = process.communicate()
        assert process.returncode == 0, error
        documents.append(json.loads(out))
    assert [document["shards"] for document in documents] == [8, 8]
    assert sum(document["shards"] - document["resumed"] for document in documents) == 8
    assert hashes(tmp_path) == calm


def test_options_of_another_executor_are_refused(imagenet, card, run, tmp_path):
    for more, named in (
        (("--worker", "0/2"), "rank"),
        (("--workers", 2), "local"),
        (("--submit", "a=1"), "slurm"),
    ):
        refused = run("data", *arguments(imagenet, card, tmp_path, *more))
        assert refused.exit_code == 1
        assert named in refused.output


@pytest.mark.parametrize(
    ("worker", "environment", "found"),
    [
        ("1/4", {"RANK": "0", "WORLD_SIZE": "2"}, (1, 4)),
        (None, {"RANK": "1", "WORLD_SIZE": "2"}, (1, 2)),
        (
            None,
            {
                "SLURM_ARRAY_TASK_ID": "5",
                "SLURM_ARRAY_TASK_COUNT": "3",
                "SLURM_ARRAY_TASK_MIN": "4",
                "RANK": "0",
            },
            (1, 3),
        ),
        (
            None,
            {
                "SLURM_ARRAY_TASK_ID": "8",
                "SLURM_ARRAY_TASK_COUNT": "3",
                "SLURM_ARRAY_TASK_MIN": "4",
                "SLURM_ARRAY_TASK_STEP": "2",
            },
            (2, 3),
        ),
    ],
)
def test_a_rank_is_told_by_the_option_then_slurm_then_torchrun(worker, environment, found):
    assert rank_of(worker, environment) == found


@pytest.mark.parametrize("worker", [None, "2/2", "-1/2", "a/b", "1", "0/0", "1/2/3"])
def test_a_rank_that_makes_no_sense_is_refused(worker):
    with pytest.raises(InputError):
        rank_of(worker, {})


def array_variables(numbers, number, step=1):
    """What Slurm tells one task of an array; of a list it calls the step 1."""
    values = {"ID": number, "COUNT": len(numbers), "MIN": min(numbers), "MAX": max(numbers), "STEP": step}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("numbers", "step"),
    [((2, 5), 1), ((2, 4), 1), ((2, 4), 2), ((7,), 1), ((3, 4, 5), 1), ((0, 3, 6, 9), 3), (range(64), 1)],
)
def test_the_tasks_of_a_slurm_array_take_every_place_once(numbers, step):
    ranks = [rank_of(None, array_variables(numbers, number, step)) for number in numbers]
    assert ranks == [(place, len(numbers)) for place in range(len(numbers))]


@pytest.mark.parametrize("numbers", [(1, 2, 7), (0, 1, 3), (2, 5, 8)])
def test_a_slurm_array_whose_places_nobody_can_know_is_refused_by_each_task(numbers):
    for number in numbers:
        with pytest.raises(InputError, match=r"not evenly spaced: submit --array=0-2, or give --worker"):
            rank_of(None, array_variables(numbers, number))
        assert rank_of("1/3", array_variables(numbers, number)) == (1, 3)


def test_slurm_variables_that_are_no_numbers_are_named():
    with pytest.raises(InputError, match="SLURM_ARRAY_TASK"):
        rank_of(None, array_variables((0, 1), 0) | {"SLURM_ARRAY_TASK_MIN": "x"})


def test_the_names_that_help_shows_are_the_executors():
    assert tuple(EXECUTORS) == EXECUTOR_NAMES


def test_shares_are_disjoint_and_complete():
    tasks = [ShardTask("t", "train", shard, ("fgsm",), 1) for shard in range(7)]
    assert sorted(task.shard for index in range(3) for task in tasks_of_rank(tasks, index, 3)) == list(
        range(7)
    )


def test_a_lock_is_anothers_until_it_is_released(tmp_path):
    collection, name = Collection(tmp_path), str(ShardId("t", "fgsm", "train", 0))
    held = lock_shard(collection, name)
    assert lock_shard(collection, name) is None
    waited = []

    def waits():
        with wait_for_shard_lock(collection, name):
            waited.append(time.monotonic())

    thread = threading.Thread(target=waits)
    thread.start()
    time.sleep(0.1)
    assert not waited
    held.close()
    thread.join(10)
    assert waited
    assert not list(tmp_path.glob("_tmp/*"))
