"""The queue of tasks: they come back until their shards are committed or have failed three times."""

import logging
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace
from threading import Lock

from impure.manifests.collection.shard_id import ShardId
from impure.pipeline.generation.events import (
    Emit,
    Event,
    ShardCommitted,
    ShardFailed,
    ShardLocked,
    ShardTask,
    TaskFinished,
)

LOGGER = logging.getLogger(__name__)
TRIES = 3


class TaskQueue:
    """Hands out tasks, records what became of them, and hands out again what is worth another try.

    Args:
        tasks: What is to be done.
        listener: Gets every event too, one at a time.

    Attributes:
        attacks: Of all tasks, in order.
        committed: Shards that are committed.
        failed: Shards that failed `TRIES` times, and why the last time.
    """

    def __init__(self, tasks: Sequence[ShardTask], listener: Emit) -> None:
        self._waiting = deque(tasks)
        self._running: set[ShardTask] = set()
        self._tries: Counter[ShardId] = Counter()
        self._retry: set[ShardId] = set()
        self._locked: set[ShardId] = set()
        self._listener = listener
        self._lock = Lock()
        self.attacks = list(dict.fromkeys(attack for task in tasks for attack in task.attacks))
        self.committed: dict[ShardId, ShardCommitted] = {}
        self.failed: dict[ShardId, str] = {}

    @property
    def done(self) -> bool:
        """Whether no task waits and none is running."""
        with self._lock:
            return not self._waiting and not self._running

    @property
    def waiting(self) -> int:
        """How many tasks wait."""
        return len(self._waiting)

    def next_task(self) -> ShardTask | None:
        """Hand out the next task; None if none waits."""
        with self._lock:
            if not self._waiting:
                return None
            task = self._waiting.popleft()
            self._running.add(task)
            return task

    def record(self, event: Event) -> None:
        """Record what a worker reports; safe to call from several threads."""
        with self._lock:
            match event:
                case ShardCommitted():
                    self.committed.setdefault(event.shard_id, event)
                case ShardFailed():
                    self._fail(event.shard_id, event.reason)
                case ShardLocked():
                    self._locked.add(event.shard_id)
                case TaskFinished():
                    self._finish(event.task)
            self._listener(event)

    def worker_died(self, tasks: Sequence[ShardTask], suspects: Sequence[ShardId], reason: str) -> None:
        """Record that a worker died before these tasks were finished.

        Args:
            tasks: What it was running.
            suspects: Shards that it was making, one of which may have killed it; if there are none, all
                shards of its tasks count as failed this time.
            reason: Why it died.
        """
        LOGGER.warning("%s, with %s", reason, ", ".join(map(str, suspects or tasks)))
        with self._lock:
            for shard_id in suspects or [shard_id for task in tasks for shard_id in task.shard_ids]:
                if shard_id not in self.committed:
                    self._fail(shard_id, reason)
                    self._listener(ShardFailed(shard_id, reason))
            for task in tasks:
                self._retry |= set(task.shard_ids)
                self._finish(task)

    def _fail(self, shard_id: ShardId, reason: str) -> None:
        """Count a failure; the last one is final."""
        self._tries[shard_id] += 1
        if self._tries[shard_id] < TRIES:
            self._retry.add(shard_id)
        else:
            self.failed[shard_id] = reason

    def _finish(self, task: ShardTask) -> None:
        """End a task; what of it is worth another try waits again, at the end."""
        self._running.discard(task)
        for shard_id in task.shard_ids:
            if shard_id not in {*self.committed, *self.failed} | self._retry | self._locked:
                self._fail(shard_id, "its worker reported nothing of it")
        left = [
            shard_id
            for shard_id in task.shard_ids
            if shard_id not in self.committed and shard_id not in self.failed
        ]
        if left:
            attacks = tuple(shard_id.attack for shard_id in left)
            wait = any(shard_id in self._locked for shard_id in left)
            self._waiting.append(replace(task, attacks=attacks, wait=wait))
        self._retry.difference_update(task.shard_ids)
        self._locked.difference_update(task.shard_ids)
