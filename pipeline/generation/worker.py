"""The shard worker: runs every attack on the images of a task, and passes the pairs on to be written."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from impure.manifests.collection.shard_lock import lock_shard, wait_for_shard_lock
from impure.manifests.collection.writer import open_shard
from impure.pipeline.generation.attack_batches import attack_all, failed_row
from impure.pipeline.generation.attack_job import AttackJob
from impure.pipeline.generation.background_writer import (
    BackgroundWriter,
    PendingShard,
    failure,
    worth_retrying,
)
from impure.pipeline.generation.clean_cache import CleanCache, open_clean_cache
from impure.pipeline.generation.events import (
    Emit,
    ShardCommitted,
    ShardLocked,
    ShardProgress,
    ShardStarted,
    ShardTask,
    TaskFinished,
)
from impure.pipeline.generation.time_left import PassMeter


class ShardWorker:
    """Makes one shard after the other; writing what one attack gave runs beside the next attack.

    Args:
        jobs: By split, the attacks on its plan.
        threads: Of the pool that decodes and encodes.
    """

    def __init__(self, jobs: Mapping[str, Sequence[AttackJob]], threads: int) -> None:
        self._jobs = jobs
        self._writer = BackgroundWriter(threads)
        self._pending: list[PendingShard] = []

    def run(self, task: ShardTask, emit: Emit) -> None:
        """Make the shards of a task that are not committed yet; returns when the last attack is done.

        What is still being written then is reported later, at the latest by `flush`; `TaskFinished` comes
        last.

        Raises:
            InputError: A committed shard was made with another config.
            OSError: What a retry will not mend, such as a full disk.
        """
        jobs = [job for job in self._jobs[task.split] if job.attack_name in task.attacks]
        todo = [job for job in jobs if not _is_committed(job, task.shard, emit)]
        if todo:
            rows = todo[0].plan.rows_of(task.shard)
            with open_clean_cache(todo[0], rows, self._writer.pool, emit) as images:
                for job in todo:
                    self._make_shard(job, task, images, emit)
        self._writer.after_commits(lambda: emit(TaskFinished(task)))

    def flush(self) -> None:
        """Wait until all is written; raises as `run`."""
        self._writer.flush()

    def close(self) -> None:
        """Stop the threads; what is not written is dropped."""
        self._writer.close()
        for pending in self._pending:
            pending.end()

    def _make_shard(self, job: AttackJob, task: ShardTask, images: CleanCache, emit: Emit) -> None:
        """Attack the images of a shard, unless another process makes it or has made it."""
        try:
            pending = self._open(job, task, emit)
        except Exception as error:
            if not worth_retrying(error):
                raise
            emit(failure(job.shard_id(task.shard), error))
            return
        if pending is None:
            return
        self._pending = [shard for shard in self._pending if not shard.ended] + [pending]
        try:
            _attack_shard(job, images, pending, emit)
        except Exception as error:
            if not worth_retrying(error):
                raise
            pending.give_up(error)

    def _open(self, job: AttackJob, task: ShardTask, emit: Emit) -> PendingShard | None:
        """Lock a shard to make it; None where another process makes it or has made it."""
        shard_id = job.shard_id(task.shard)
        with ExitStack() as resources:
            lock = (wait_for_shard_lock if task.wait else lock_shard)(job.collection, str(shard_id))
            if lock is None:
                emit(ShardLocked(shard_id))
                return None
            resources.enter_context(lock)
            if _is_committed(job, task.shard, emit):
                return None
            emit(ShardStarted(shard_id))
            shard = resources.enter_context(open_shard(job.collection, shard_id))
            return PendingShard(shard_id, shard, resources.pop_all(), self._writer, emit)


def _attack_shard(job: AttackJob, images: CleanCache, pending: PendingShard, emit: Emit) -> None:
    """Attack batch by batch, and pass each on to be encoded and written; then commit."""
    batch_sizes: list[int] = []
    meter = PassMeter(pending.shard_id, emit)
    for batch in attack_all(job, images, meter):
        if pending.ended:  # writing it failed: it will be made again
            return
        batch_sizes += batch.attacked_together
        pending.add(batch.samples)
        pending.add_rows(batch.failed)
        meter.finish(len(batch.samples) + len(batch.failed))
    pending.add_rows([failed_row(job, row, row["status"], row["error"]) for row in images.lost])
    meter.finish(len(images.lost))
    pending.commit(job.config(), job.facts(batch_sizes))


def _is_committed(job: AttackJob, number: int, emit: Emit) -> bool:
    """Whether a shard is committed already; if so, it is reported."""
    committed = job.committed(number)
    if committed is None:
        return False
    counts = committed.marker["counts"]
    emit(ShardProgress(committed.shard_id, counts["planned"] + counts.get("unreadable", 0)))
    emit(ShardCommitted(committed.shard_id, counts, 0.0, resumed=True))
    return True


def shard_tasks(jobs: Sequence[AttackJob]) -> list[ShardTask]:
    """One task for each shard of the plan that the jobs share."""
    plan, names = jobs[0].plan, tuple(job.attack_name for job in jobs)
    sizes = Counter(plan.table["shard"].to_pylist())
    name = jobs[0].target.card.name
    return [ShardTask(name, plan.split, shard, names, images) for shard, images in sorted(sizes.items())]
