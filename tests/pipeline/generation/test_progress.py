"""What the progress bar counts and shows."""

import json
import time

import pytest

from impure.manifests.collection.shard_id import ShardId
from impure.pipeline.generation import progress
from impure.pipeline.generation.events import (
    ATTACK,
    COMMIT,
    COMMITTERS,
    DECODE,
    ENCODE,
    STAGES,
    VERDICT,
    WRITE,
    Compiling,
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
from impure.pipeline.generation.time_left import Costs, TimeLeft
from tests.pipeline.generation.small_run import arguments

FGSM, PGD = ShardId("t", "fgsm", "train", 0), ShardId("t", "pgd", "train", 0)
BOTH = ShardTask("t", "train", 0, ("fgsm", "pgd"), 5)


@pytest.fixture
def view():
    with ProgressBar([BOTH], Costs({}), workers=1, threads=4) as shown:
        yield shown


def tell(view, *events):
    for event in events:
        view(event)


def test_compiling_is_said_until_the_first_images_are_attacked(view):
    tell(view, ShardStarted(PGD), Compiling("pgd"))
    assert "pgd (compiling …) limited by" in view.summary()
    tell(view, ShardProgress(PGD, 0))
    assert "compiling" not in view.summary()


def test_images_of_a_shard_that_is_tried_again_are_not_counted_twice(view):
    tell(view, ShardStarted(FGSM), ShardProgress(FGSM, 3), ShardProgress(FGSM, 5))
    assert view.images == 5
    tell(view, ShardFailed(FGSM, "broken"))
    assert view.images == 0
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
    assert view.images == 10
    assert "10/10 images, 2/2 shards" in view.summary()


def test_a_shard_that_two_workers_report_counts_once(view):
    tell(
        view,
        ShardProgress(FGSM, 5),
        ShardCommitted(FGSM, {}, 1.0, False),
        ShardProgress(FGSM, 5),
        ShardCommitted(FGSM, {}, 0.0, True),
    )
    assert "5/10 images, 1/2 shards" in view.summary()


def test_failures_are_told_on_standard_error_alone(capsys):
    with ProgressBar([BOTH], Costs({}), workers=1, threads=4) as view:
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


def test_the_limit_is_the_pool_where_decoding_and_encoding_fill_it_together(view):
    tell(view, StageTime(DECODE, 8.0), StageTime(ENCODE, 12.0), StageTime(ATTACK, 4.0))  # 2 + 3 of 4 threads
    assert view.limit() == ENCODE
    tell(view, StageTime(COMMIT, 4 * COMMITTERS), StageTime(WRITE, 4.5))
    assert view.limit() == ENCODE
    tell(view, StageTime(WRITE, 1.0))
    assert view.limit() == WRITE
    tell(view, StageTime(COMMIT, 2 * COMMITTERS))
    assert view.limit() == COMMIT


def test_shares_are_of_all_threads_and_workers():
    with ProgressBar([], Costs({}), workers=2, threads=8) as view:
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


def test_eighty_columns_hold_time_left_attack_limit_and_images(monkeypatch):
    monkeypatch.setattr(TimeLeft, "seconds", lambda _: 7425.0)
    with ProgressBar(
        [ShardTask("t", "train", 0, ("mdifgsm-e16",), 10)], Costs({}), workers=1, threads=4
    ) as view:
        tell(view, ShardProgress(ShardId("t", "mdifgsm-e16", "train", 0), 3), StageTime(ATTACK, 9.0))
        line = f"100%|{'█' * 10}| {view.summary()}"[:80]
    assert "[00:00<2:03:45] mdifgsm-e16 limited by attack, 3/10 images" in line


def test_a_clock_moves_the_bar_between_events(capsys, monkeypatch):
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.01)
    monkeypatch.setattr(TimeLeft, "seconds", lambda _: 5.0)
    with ProgressBar([BOTH], Costs({}), workers=1, threads=4) as view:
        tell(view, ShardStarted(FGSM))
        time.sleep(0.1)
    assert capsys.readouterr().err.count("<00:05] ") > 3
