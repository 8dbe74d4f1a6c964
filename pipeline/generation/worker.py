"""Make shards: attack the images of a task with every attack, hand the pairs on to be written, and report."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import pyarrow.compute as pc

from impure.manifests.collection.schema import Row
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
from impure.pipeline.generation.clean_cache import CleanCache, open_images
from impure.pipeline.generation.draw_plan import Plan
from impure.pipeline.generation.events import Advanced, Emit, Made, Settled, ShardTask, Started, Taken


class ShardWorker:
    """Makes one shard after the other; writing what one attack gave runs beside the next attack.

    Args:
        jobs: By split, the attacks on its plan.
        threads: Of the pool that decodes and encodes.
    """

    def __init__(self, jobs: Mapping[str, Sequence[AttackJob]], threads: int) -> None:
        self._jobs = jobs
        self._finisher = BackgroundWriter(threads)
        self._flights: list[PendingShard] = []

    def make(self, task: ShardTask, emit: Emit) -> None:
        """Make the units of a task that are not committed yet; returns when the last attack is done.

        What is still being written then is reported later, at the latest by `flush`; `Settled` comes last.

        Raises:
            InputError: A committed shard was made with another config.
            OSError: What a retry will not mend, such as a full disk.
        """
        jobs = [job for job in self._jobs[task.split] if job.attack_name in task.attacks]
        todo = [job for job in jobs if not _is_there(job, task.shard, emit)]
        if todo:
            rows = rows_of(todo[0].plan, task.shard)
            with open_images(todo[0], rows, self._finisher.pool, emit) as images:
                for job in todo:
                    self._make_shard(job, task, images, emit)
        self._finisher.then(lambda: emit(Settled(task)))

    def flush(self) -> None:
        """Wait until all is written; raises as `make`."""
        self._finisher.flush()

    def close(self) -> None:
        """Stop the threads; what is not written is dropped."""
        self._finisher.close()
        for flight in self._flights:
            flight.end()

    def _make_shard(self, job: AttackJob, task: ShardTask, images: CleanCache, emit: Emit) -> None:
        """Attack the images of a shard, unless another process is at it or just was."""
        try:
            flight = self._open(job, task, emit)
        except Exception as error:
            if not worth_retrying(error):
                raise
            emit(failure(job.shard_id(task.shard), error))
            return
        if flight is None:
            return
        self._flights = [each for each in self._flights if not each.over] + [flight]
        try:
            _attack_shard(job, images, flight, emit)
        except Exception as error:
            if not worth_retrying(error):
                raise
            flight.give_up(error)

    def _open(self, job: AttackJob, task: ShardTask, emit: Emit) -> PendingShard | None:
        """Take a shard to make it; None where another process makes it or has made it."""
        shard_id = job.shard_id(task.shard)
        with ExitStack() as resources:
            held = (wait_for_shard_lock if task.wait else lock_shard)(job.collection, str(shard_id))
            if held is None:
                emit(Taken(shard_id))
                return None
            resources.enter_context(held)
            if _is_there(job, task.shard, emit):
                return None
            emit(Started(shard_id))
            shard = resources.enter_context(open_shard(job.collection, shard_id))
            return PendingShard(shard_id, shard, resources.pop_all(), self._finisher, emit)


def _attack_shard(job: AttackJob, images: CleanCache, flight: PendingShard, emit: Emit) -> None:
    """Send every batch of a shard on its way, then its commit."""
    together: list[int] = []
    done = 0
    for batch in attack_all(job, images, emit):
        if flight.over:  # writing it failed: it will be made again
            return
        together += batch.together
        done += len(batch.samples) + len(batch.failed)
        flight.add(batch.samples)
        flight.note(batch.failed)
        emit(Advanced(flight.shard_id, done))
    flight.note([failed_row(job, row, row["status"], row["error"]) for row in images.lost])
    emit(Advanced(flight.shard_id, done + len(images.lost)))
    flight.commit(job.config(), job.facts(together))


def _is_there(job: AttackJob, shard: int, emit: Emit) -> bool:
    """Whether a shard is committed already; if so, it is reported."""
    there = job.committed(shard)
    if there is not None:
        counts = there.marker["counts"]
        emit(Advanced(there.shard_id, counts["planned"] + counts.get("unreadable", 0)))
        emit(Made(there.shard_id, counts, 0.0, resumed=True))
    return there is not None


def rows_of(plan: Plan, shard: int) -> list[Row]:
    """The plan's rows of one shard, in order."""
    rows: list[Row] = plan.table.filter(pc.field("shard") == shard).to_pylist()
    return rows


def shard_tasks(jobs: Sequence[AttackJob]) -> list[ShardTask]:
    """One task for each shard of the plan that the jobs share."""
    plan, names = jobs[0].plan, tuple(job.attack_name for job in jobs)
    sizes = Counter(plan.table["shard"].to_pylist())
    name = jobs[0].target.card.name
    return [ShardTask(name, plan.split, shard, names, images) for shard, images in sorted(sizes.items())]
