"""What follows an attack, beside the next one: encoding in a pool, writing in order, a bounded way behind."""

import errno
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

from impure.manifests.base.errors import first_line
from impure.manifests.collection.schema import Row
from impure.manifests.collection.shard_id import ShardId
from impure.manifests.collection.writer import Encoded, ShardWriter
from impure.pipeline.generation.batch_size import is_device_lost, is_out_of_memory
from impure.pipeline.generation.events import WRITE, Emit, Failed, Made, timed

BEHIND = 4
"""Batches that may wait to be written; with them memory is bounded, whatever the size of a shard."""

#: What no second try will mend.
_HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


def worth_retrying(error: BaseException) -> bool:
    """Whether making the shard again in this process may help."""
    if isinstance(error, OSError):
        return error.errno not in _HOPELESS
    return isinstance(error, RuntimeError) and not (is_out_of_memory(error) or is_device_lost(error))


def failure(shard_id: ShardId, error: BaseException) -> Failed:
    """The event that says so."""
    return Failed(shard_id, f"{type(error).__name__}: {first_line(error)}")


class BackgroundWriter:
    """A pool that encodes and a thread that writes; steps run in the order in which they were given."""

    def __init__(self, threads: int) -> None:
        self.pool = ThreadPoolExecutor(threads, "encode")
        self._writer = ThreadPoolExecutor(1, "write")
        self._waiting: deque[Future[None]] = deque()
        self._broken = False

    def then(self, step: Callable[[], None]) -> None:
        """Run `step` after those before it; wait first where `BEHIND` are waiting.

        Raises:
            Exception: Whatever an earlier step raised.
        """
        while len(self._waiting) >= BEHIND:
            self._waiting.popleft().result()
        self._waiting.append(self._writer.submit(self._run, step))

    def _run(self, step: Callable[[], None]) -> None:
        """Run a step, unless one before it raised: nothing may look finished that is not."""
        if self._broken:
            return
        try:
            step()
        except BaseException:
            self._broken = True
            raise

    def flush(self) -> None:
        """Wait until nothing waits (see `then`)."""
        while self._waiting:
            self._waiting.popleft().result()

    def close(self) -> None:
        """End both, dropping what waits."""
        self._writer.shutdown(cancel_futures=True)
        self.pool.shutdown(cancel_futures=True)


class PendingShard:
    """One shard on its way into the collection; its end is one `Made` or one `Failed`.

    Attributes:
        shard: Which.
        over: Whether it has come to its end.
    """

    def __init__(
        self,
        shard_id: ShardId,
        shard: ShardWriter,
        resources: ExitStack,
        finisher: BackgroundWriter,
        emit: Emit,
    ):
        self.shard_id, self._shard, self._resources = shard_id, shard, resources
        self._finisher, self._emit = finisher, emit
        self._begun = time.perf_counter()
        self.over = False

    def add(self, batch: Sequence[Callable[[], Encoded]]) -> None:
        """Encode and append the samples of a batch."""
        futures = [self._finisher.pool.submit(work) for work in batch]
        self._finisher.then(partial(self._try, self._append, futures))

    def note(self, rows: Sequence[Row]) -> None:
        """Add the rows of images that have no sample."""
        self._finisher.then(partial(self._try, self._shard.note, rows))

    def commit(self, config: dict[str, Any], facts: dict[str, Any]) -> None:
        """Commit once all is written."""
        self._finisher.then(partial(self._try, self._commit, config, facts))

    def give_up(self, error: BaseException) -> None:
        """Drop the shard; it may be tried again."""
        self._finisher.then(partial(self._try, self._fail, error))

    def _try(self, step: Callable[..., None], *arguments: Any) -> None:
        """Run a step of a shard that has not failed; what no retry will mend goes on to the caller."""
        if self.over:
            return
        try:
            step(*arguments)
        except BaseException as error:
            if not worth_retrying(error):
                self.end()
                raise
            self._fail(error)

    def _append(self, futures: Sequence[Future[Encoded]]) -> None:
        for future in futures:
            encoded = future.result()
            with timed(self._emit, WRITE):
                self._shard.add(encoded)

    def _commit(self, config: dict[str, Any], facts: dict[str, Any]) -> None:
        seconds = time.perf_counter() - self._begun
        with timed(self._emit, WRITE):
            marker = self._shard.commit(config, {**facts, "seconds": round(seconds, 3)})
        self.end()
        self._emit(Made(self.shard_id, marker["counts"], seconds, resumed=False))

    def _fail(self, error: BaseException) -> None:
        self.end()
        self._emit(failure(self.shard_id, error))

    def end(self) -> None:
        """Let go of the folder aside and of the claim."""
        self.over = True
        self._resources.close()
