"""One process for each GPU, or for each share of the CPU; a worker that dies is replaced."""

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
from impure.manifests.collection.shard_id import ShardId
from impure.pipeline.executors.task_queue import TRIES, TaskQueue
from impure.pipeline.generation.batch_size import is_device_lost
from impure.pipeline.generation.events import Event, Failed, Made, Settled, ShardTask, Started
from impure.pipeline.generation.worker import ShardWorker

OpenWorker = Callable[[int], ShardWorker]
"""Builds what makes shards in the worker of this number; travels to it pickled."""

READY, FLUSH = "ready", "flush"


@dataclass(slots=True)
class _Worker:
    """A process, the line to it, and what it has been given."""

    number: int
    process: ForkServerProcess
    line: Connection
    given: list[ShardTask]
    suspects: list[ShardId] = field(default_factory=list)
    born: bool = False
    idle: bool = False
    flushed: bool = False

    def tell(self, order: ShardTask | str) -> None:
        """Give an order; that the worker is dead is seen when it is listened to."""
        self.idle = False
        with suppress(OSError):
            self.line.send(order)


def run_local(open_maker: OpenWorker, ledger: TaskQueue, workers: int) -> None:
    """Make every task with so many processes.

    Raises:
        InputError: Workers die before they can do anything.
        Exception: What a worker raised and no retry will mend.
    """
    crew = [_start(open_maker, number) for number in range(min(workers, ledger.waiting))]
    stillborn = 0
    try:
        while not ledger.done:
            for worker in crew:
                _occupy(worker, ledger)
            ready = wait([worker.line for worker in crew])
            for place, worker in enumerate(crew):
                if worker.line not in ready or _listen(worker, ledger):
                    continue
                stillborn = 0 if worker.born else stillborn + 1
                if stillborn >= TRIES:
                    raise InputError(f"workers die at their start ({_how_it_died(worker)})")
                ledger.died(worker.given, worker.suspects, f"its worker died ({_how_it_died(worker)})")
                crew[place] = _start(open_maker, worker.number)
    finally:
        for worker in crew:
            worker.process.kill()  # what it has in hand is built aside
            worker.process.join()


def _start(open_maker: OpenWorker, number: int) -> _Worker:
    # A server that has imported everything, but never touched a GPU, forks workers in no time.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "impure.pipeline.generation.run"])
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(open_maker, number, theirs), daemon=True)
    process.start()
    theirs.close()  # or its death would not end the line
    return _Worker(number, process, ours, [])


def _occupy(worker: _Worker, ledger: TaskQueue) -> None:
    """Give an idle worker a task; if there is none, let it finish what it has in hand."""
    if not worker.idle:
        return
    if task := ledger.take():
        worker.given.append(task)
        worker.flushed = False
        worker.tell(task)
    elif worker.given and not worker.flushed:
        worker.flushed = True
        worker.tell(FLUSH)


def _listen(worker: _Worker, ledger: TaskQueue) -> bool:
    """Hear one thing from a worker; False if it is dead."""
    try:
        heard: Event | str | BaseException = worker.line.recv()
    except (EOFError, OSError):
        return False
    match heard:
        case BaseException():
            raise heard
        case str():
            worker.idle = worker.born = True
        case Started():
            worker.suspects.append(heard.shard_id)
        case Made() | Failed() if heard.shard_id in worker.suspects:
            worker.suspects.remove(heard.shard_id)
        case Settled():
            worker.given.remove(heard.task)
    if not isinstance(heard, str):
        ledger.hear(heard)
    return True


def _how_it_died(worker: _Worker) -> str:
    """In words."""
    worker.process.join()
    code = worker.process.exitcode or 0
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


class _Line:
    """The worker's end of the line; when it breaks the parent is gone, and so is the worker."""

    def __init__(self, line: Connection) -> None:
        self._line, self._lock = line, Lock()

    def emit(self, event: Event | str | BaseException) -> None:
        """Say something; safe to call from several threads."""
        with self._lock:
            try:
                self._line.send(event)
            except OSError:
                os._exit(1)

    def order(self) -> ShardTask | str:
        """Wait for an order."""
        try:
            order: ShardTask | str = self._line.recv()
        except (EOFError, OSError):
            os._exit(1)
        return order


def _work(open_maker: OpenWorker, number: int, connection: Connection) -> None:
    """The worker's life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    line = _Line(connection)
    try:
        with closing(open_maker(number)) as maker:
            line.emit(READY)
            while True:
                order = line.order()
                maker.flush() if isinstance(order, str) else maker.make(order, line.emit)
                line.emit(READY)
    except Exception as error:  # noqa: BLE001 - the parent raises it
        if not is_device_lost(error):  # a new process may find it again: the parent starts one
            line.emit(_portable(error))


def _portable(error: Exception) -> BaseException:
    """An exception that arrives at the parent, with the traceback that led to it."""
    error.add_note(traceback.format_exc())
    try:
        copy: BaseException = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:  # noqa: BLE001 - whatever its class makes of it
        return RuntimeError(f"{type(error).__name__}: {error}")
    return copy
