"""Inline: all tasks in this process, one after the other."""

from collections.abc import Callable
from contextlib import closing

from impure.pipeline.executors.task_queue import TaskQueue
from impure.pipeline.generation.worker import ShardWorker


def run_inline(open_worker: Callable[[], ShardWorker], queue: TaskQueue) -> None:
    """Run every task, one after the other."""
    with closing(open_worker()) as worker:
        while not queue.done:
            while task := queue.next_task():
                worker.run(task, queue.record)
            worker.flush()
