"""What the progress bar counts and shows."""

import json
import time

import pytest

from impure.manifests.collection.shard_id import ShardId
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
from tests.pipeline.generation.small_run import arguments

FGSM, PGD = ShardId("t", "fgsm", "train", 0), ShardId("t", "pgd", "train", 0)
BOTH = ShardTask("t", "train", 0, ("fgsm", "pgd"), 5)


@pytest.fixture
def view():
    with ProgressBar(10, 2, workers=1, threads=4) as shown:
        yield shown


def tell(view, *events):
    for event in events:
        view(event)


def test_images_of_a_shard_that_is_tried_again_are_not_counted_twice(view):
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


def test_a_shard_that_two_workers_report_counts_once(view):
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
