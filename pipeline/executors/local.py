"""Worker processes on this machine, one a GPU or a part of the CPU; one that dies is replaced."""

import multiprocessing
import os
import pickle
import signal
import traceback
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from threading import Lock

from impure.manifests.base.errors import InputError
from impure.manifests.base.logs import log_failure
from impure.manifests.collection.shard_id import ShardId
from impure.pipeline.executors.task_queue import TRIES, TaskQueue
from impure.pipeline.generation.batch_size import is_device_lost
from impure.pipeline.generation.events import (
    Event,
    ShardCommitted,
    ShardFailed,
    ShardStarted,
    ShardTask,
    TaskFinished,
)
from impure.pipeline.generation.worker import ShardWorker

OpenWorker = Callable[[int], ShardWorker]
"""Opens the `ShardWorker` of the process of this number; sent to it pickled."""

READY, FLUSH = "ready", "flush"


@dataclass(slots=True)
class _Worker:
    """A process, and what the parent knows of it.

    Attributes:
        number: Of the worker; decides which GPU it takes.
        pipe: To the process.
        tasks: Sent and not finished yet.
        suspects: Shards that it is making: if it dies, one of them may be why.
        ready: Whether it has ever asked for work.
        idle: Whether it asks for work now.
        flushed: Whether it was told to finish what it is still writing.
    """

    number: int
    process: ForkServerProcess
    pipe: Connection
    tasks: list[ShardTask]
    suspects: list[ShardId] = field(default_factory=list)
    ready: bool = False
    idle: bool = False
    flushed: bool = False

    def send(self, message: ShardTask | str) -> None:
        """Send a task or `FLUSH`; that the process is dead is seen when its events are read."""
        self.idle = False
        with suppress(OSError):
            self.pipe.send(message)


def run_local(open_worker: OpenWorker, queue: TaskQueue, workers: int) -> None:
    """Run every task with so many processes.

    Raises:
        InputError: Workers die before they can do anything.
        Exception: What a worker raised and no retry will mend.
    """
    pool = [_start(open_worker, number) for number in range(min(workers, queue.waiting))]
    died_at_start = 0
    try:
        while not queue.done:
            for worker in pool:
                _give_work(worker, queue)
            readable = wait([worker.pipe for worker in pool])
            for index, worker in enumerate(pool):
                if worker.pipe not in readable or _read_event(worker, queue):
                    continue
                cause = _cause_of_death(worker)
                died_at_start = 0 if worker.ready else died_at_start + 1
                if died_at_start >= TRIES:
                    raise InputError(f"workers die at their start ({cause})")
                queue.worker_died(worker.tasks, worker.suspects, f"its worker died ({cause})")
                pool[index] = _start(open_worker, worker.number)
    finally:
        for worker in pool:
            worker.process.kill()  # what it is writing lies in a temporary folder
            worker.process.join()


def _start(open_worker: OpenWorker, number: int) -> _Worker:
    """Start a worker process."""
    # A server that has imported everything, but never touched a GPU, forks workers in no time.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "impure.pipeline.generation.run"])
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(open_worker, number, theirs), daemon=True)
    process.start()
    theirs.close()  # or its death would not close the pipe
    return _Worker(number, process, ours, [])


def _give_work(worker: _Worker, queue: TaskQueue) -> None:
    """Send an idle worker a task; if none waits, let it finish what it is still writing."""
    if not worker.idle:
        return
    if task := queue.next_task():
        worker.tasks.append(task)
        worker.flushed = False
        worker.send(task)
    elif worker.tasks and not worker.flushed:
        worker.flushed = True
        worker.send(FLUSH)


def _read_event(worker: _Worker, queue: TaskQueue) -> bool:
    """Read one event from a worker; False if it is dead."""
    try:
        event: Event | str | BaseException = worker.pipe.recv()
    except (EOFError, OSError):
        return False
    match event:
        case BaseException():
            raise event
        case str():
            worker.idle = worker.ready = True
        case ShardStarted():
            worker.suspects.append(event.shard_id)
        case ShardCommitted() | ShardFailed() if event.shard_id in worker.suspects:
            worker.suspects.remove(event.shard_id)
        case TaskFinished():
            worker.tasks.remove(event.task)
    if not isinstance(event, str):
        queue.record(event)
    return True


def _cause_of_death(worker: _Worker) -> str:
    """The signal or the exit code that ended a process."""
    worker.process.join()
    code = worker.process.exitcode or 0
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


class _Parent:
    """The worker's end of the pipe; when it breaks the parent is gone, and the worker ends itself."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._lock = pipe, Lock()

    def emit(self, event: Event | str | BaseException) -> None:
        """Send an event; safe to call from several threads."""
        with self._lock:
            try:
                self._pipe.send(event)
            except OSError:
                os._exit(1)

    def receive(self) -> ShardTask | str:
        """Wait for a task or `FLUSH`."""
        try:
            message: ShardTask | str = self._pipe.recv()
        except (EOFError, OSError):
            os._exit(1)
        return message


def _work(open_worker: OpenWorker, number: int, connection: Connection) -> None:
    """What a worker process does from its start to its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    parent = _Parent(connection)
    try:
        with closing(open_worker(number)) as shard_worker:
            parent.emit(READY)
            while True:
                message = parent.receive()
                shard_worker.flush() if isinstance(message, str) else shard_worker.run(message, parent.emit)
                parent.emit(READY)
    except Exception as error:  # noqa: BLE001 - the parent raises it
        log_failure(error)
        if not is_device_lost(error):  # a new process may find it again: the parent starts one
            parent.emit(_portable(error))


def _portable(error: Exception) -> BaseException:
    """An exception that arrives at the parent, with the traceback that led to it."""
    error.add_note(traceback.format_exc())
    try:
        copy: BaseException = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:  # noqa: BLE001 - whatever its class makes of it
        return RuntimeError(f"{type(error).__name__}: {error}")
    return copy
