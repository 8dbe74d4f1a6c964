"""What is left to do: tasks come back until their shards are made or have failed three times."""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace
from threading import Lock

from impure.manifests.collection.shard_id import ShardId
from impure.pipeline.generation.events import Emit, Event, Failed, Made, Settled, ShardTask, Taken

TRIES = 3


class TaskQueue:
    """Hands out tasks, hears what became of them, and hands out again what is worth another try.

    Args:
        tasks: What is to be done.
        tell: Hears every event too, one at a time.

    Attributes:
        attacks: Of all tasks, in order.
        made: What is committed.
        failed: Shards that failed `TRIES` times, and why the last time.
    """

    def __init__(self, tasks: Sequence[ShardTask], tell: Emit) -> None:
        self._waiting = deque(tasks)
        self._given: set[ShardTask] = set()
        self._tries: Counter[ShardId] = Counter()
        self._again: set[ShardId] = set()
        self._taken: set[ShardId] = set()
        self._tell, self._lock = tell, Lock()
        self.attacks = list(dict.fromkeys(attack for task in tasks for attack in task.attacks))
        self.made: dict[ShardId, Made] = {}
        self.failed: dict[ShardId, str] = {}

    @property
    def done(self) -> bool:
        """Whether nothing waits and nothing is being done."""
        with self._lock:
            return not self._waiting and not self._given

    @property
    def waiting(self) -> int:
        """How many tasks wait."""
        return len(self._waiting)

    def take(self) -> ShardTask | None:
        """The next task; None if none waits."""
        with self._lock:
            if not self._waiting:
                return None
            task = self._waiting.popleft()
            self._given.add(task)
            return task

    def hear(self, event: Event) -> None:
        """Note what happened; safe to call from several threads."""
        with self._lock:
            match event:
                case Made():
                    self.made.setdefault(event.shard_id, event)
                case Failed():
                    self._fail(event.shard_id, event.reason)
                case Taken():
                    self._taken.add(event.shard_id)
                case Settled():
                    self._settle(event.task)
            self._tell(event)

    def died(self, tasks: Sequence[ShardTask], suspects: Sequence[ShardId], reason: str) -> None:
        """Note that a worker died with these tasks unsettled; without suspects all their shards are."""
        with self._lock:
            for shard_id in suspects or [shard_id for task in tasks for shard_id in task.shard_ids]:
                if shard_id not in self.made:
                    self._fail(shard_id, reason)
                    self._tell(Failed(shard_id, reason))
            for task in tasks:
                self._again |= set(task.shard_ids)
                self._settle(task)

    def _fail(self, shard_id: ShardId, reason: str) -> None:
        self._tries[shard_id] += 1
        if self._tries[shard_id] < TRIES:
            self._again.add(shard_id)
        else:
            self.failed[shard_id] = reason

    def _settle(self, task: ShardTask) -> None:
        """A task is over; what of it is worth another try waits again, at the end."""
        self._given.discard(task)
        for shard_id in task.shard_ids:
            if shard_id not in {*self.made, *self.failed} | self._again | self._taken:
                self._fail(shard_id, "its worker said nothing of it")
        left = [
            shard_id
            for shard_id in task.shard_ids
            if shard_id not in self.made and shard_id not in self.failed
        ]
        if left:
            wait = any(shard_id in self._taken for shard_id in left)
            self._waiting.append(
                replace(task, attacks=tuple(shard_id.attack for shard_id in left), wait=wait)
            )
        self._again.difference_update(task.shard_ids)
        self._taken.difference_update(task.shard_ids)
