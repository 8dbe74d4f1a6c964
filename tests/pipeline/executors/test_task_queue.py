"""The queue of tasks: what failed is tried again, three times, and nothing is taken for done that is not."""

from impure.pipeline.executors.task_queue import TaskQueue
from impure.pipeline.generation.events import (
    ShardCommitted,
    ShardFailed,
    ShardLocked,
    ShardTask,
    TaskFinished,
)

TASK = ShardTask("t", "train", 0, ("fgsm", "pgd"), 5)
FGSM, PGD = TASK.shard_ids


def queue_of_one():
    heard = []
    return TaskQueue([TASK], heard.append), heard


def test_a_shard_that_fails_three_times_is_reported_and_the_rest_is_done():
    queue, _ = queue_of_one()
    for _ in range(2):
        task = queue.next_task()
        queue.record(ShardFailed(FGSM, "broken"))
        queue.record(ShardCommitted(PGD, {}, 0.0, resumed=False))
        queue.record(TaskFinished(task))
        assert not queue.done
    assert queue.next_task().attacks == ("fgsm",)
    queue.record(ShardFailed(FGSM, "broken still"))
    queue.record(TaskFinished(task))
    assert queue.done
    assert queue.failed == {FGSM: "broken still"}
    assert set(queue.committed) == {PGD}


def test_a_shard_that_kills_its_worker_three_times_does_not_keep_the_others_from_being_made():
    queue, _ = queue_of_one()
    for _ in range(3):
        queue.worker_died([queue.next_task()], [FGSM], "SIGKILL")
    task = queue.next_task()
    assert task.attacks == ("pgd",)
    queue.record(ShardCommitted(PGD, {}, 0.0, resumed=False))
    queue.record(TaskFinished(task))
    assert queue.done
    assert set(queue.failed) == {FGSM}


def test_a_worker_that_dies_three_times_without_a_suspect_fails_its_shards():
    queue, heard = queue_of_one()
    for _ in range(3):
        queue.worker_died([queue.next_task()], [], "SIGKILL")
    assert queue.done
    assert set(queue.failed) == {FGSM, PGD}
    assert heard.count(ShardFailed(PGD, "SIGKILL")) == 3


def test_a_shard_of_which_nothing_was_heard_is_tried_again_and_never_taken_for_done():
    queue, _ = queue_of_one()
    for _ in range(3):
        assert not queue.done
        task = queue.next_task()
        queue.record(TaskFinished(task))
    assert queue.done
    assert set(queue.failed) == {FGSM, PGD}


def test_what_another_process_has_is_waited_for_at_the_end():
    queue, _ = queue_of_one()
    task = queue.next_task()
    queue.record(ShardLocked(FGSM))
    queue.record(ShardCommitted(PGD, {}, 0.0, resumed=False))
    queue.record(TaskFinished(task))
    again = queue.next_task()
    assert (again.attacks, again.wait) == (("fgsm",), True)


def test_a_shard_that_is_reported_twice_stays_as_it_was_first_reported():
    queue, _ = queue_of_one()
    queue.record(ShardCommitted(PGD, {}, 2.0, resumed=False))
    queue.record(ShardCommitted(PGD, {}, 0.0, resumed=True))
    assert not queue.committed[PGD].resumed
