"""What is left to do: tasks come back until their units are made or have failed three times."""

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
        failed: Units that failed `TRIES` times, and why the last time.
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
                    self.made.setdefault(event.unit, event)
                case Failed():
                    self._fail(event.unit, event.reason)
                case Taken():
                    self._taken.add(event.unit)
                case Settled():
                    self._settle(event.task)
            self._tell(event)

    def died(self, tasks: Sequence[ShardTask], suspects: Sequence[ShardId], reason: str) -> None:
        """Note that a worker died with these tasks unsettled; without suspects all their units are."""
        with self._lock:
            for unit in suspects or [unit for task in tasks for unit in task.units]:
                if unit not in self.made:
                    self._fail(unit, reason)
                    self._tell(Failed(unit, reason))
            for task in tasks:
                self._again |= set(task.units)
                self._settle(task)

    def _fail(self, unit: ShardId, reason: str) -> None:
        self._tries[unit] += 1
        if self._tries[unit] < TRIES:
            self._again.add(unit)
        else:
            self.failed[unit] = reason

    def _settle(self, task: ShardTask) -> None:
        """A task is over; what of it is worth another try waits again, at the end."""
        self._given.discard(task)
        for unit in task.units:
            if unit not in {*self.made, *self.failed} | self._again | self._taken:
                self._fail(unit, "its worker said nothing of it")
        left = [unit for unit in task.units if unit not in self.made and unit not in self.failed]
        if left:
            wait = any(unit in self._taken for unit in left)
            self._waiting.append(replace(task, attacks=tuple(unit.attack for unit in left), wait=wait))
        self._again.difference_update(task.units)
        self._taken.difference_update(task.units)
