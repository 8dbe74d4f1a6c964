"""Fetch markers and plans of a remote collection aside, and check them before anything local is touched."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from impure.manifests.base.errors import InputError
from impure.manifests.collection.collection import Collection, CommittedShard
from impure.manifests.collection.layout import is_plan
from impure.manifests.collection.plan import plan_differences, read_plan
from impure.manifests.collection.shard_id import CLEAN, ShardId, parse_shard_id
from impure.manifests.collection.storage_profiles import CLEAN_ONCE
from impure.manifests.sharing.remote_collection import RemoteCollection

Item = TypeVar("Item")
Result = TypeVar("Result")

THREADS = 4


def in_parallel(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Do something to every item, a few at once; what has not begun is dropped at the first error."""
    pool = ThreadPoolExecutor(THREADS)
    try:
        return list(pool.map(work, items))
    finally:
        pool.shutdown(cancel_futures=True)


def shard_ids_in(names: Iterable[str]) -> list[ShardId]:
    """The shards whose markers are among some names, ordered."""
    return sorted(shard_id for shard_id in map(parse_shard_id, names) if shard_id is not None)


def stage_markers(
    remote: RemoteCollection, shard_ids: Iterable[ShardId], local: Collection, staged: Collection
) -> list[CommittedShard]:
    """Fetch the markers of some shards into a collection aside, and read them.

    Args:
        remote: Where from.
        shard_ids: Which.
        local: The collection that they are meant for; what it has of them need not be downloaded.
        staged: The collection aside.

    Raises:
        RemoteError: One cannot be read.
        InputError: One is no marker, or another shard's.
    """
    return in_parallel(lambda shard_id: stage_marker(remote, shard_id, local, staged), shard_ids)


def stage_marker(
    remote: RemoteCollection, shard_id: ShardId, local: Collection, staged: Collection
) -> CommittedShard:
    """Fetch one marker (see `stage_markers`)."""
    path = staged.marker_path(shard_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(remote.read(f"{shard_id}.done.json", local.marker_path(shard_id)))
    with _refused(f"{remote.url}/{shard_id}.done.json"):
        shard = staged.read(shard_id)
        if shard.marker["shard_id"] != str(shard_id):
            raise InputError("it is the marker of another shard")
    return shard


@contextmanager
def _refused(address: str) -> Iterator[None]:
    """Name the remote file of which only a copy was found bad."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{address}: refused ({error})") from error


def needed_clean_shards(shards: Sequence[CommittedShard], available: Sequence[ShardId]) -> list[ShardId]:
    """The clean shards, not among `shards`, that hold the clean images of `shards`.

    Args:
        shards: Those that were asked for.
        available: All that the collection has.
    """
    held = {shard.shard_id for shard in shards}
    groups = {
        (shard.shard_id.target, shard.shard_id.split)
        for shard in shards
        if shard.storage.profile == CLEAN_ONCE
    }
    return [
        shard_id
        for shard_id in available
        if shard_id.attack == CLEAN and (shard_id.target, shard_id.split) in groups and shard_id not in held
    ]


def stage_plans(
    remote: RemoteCollection, names: Iterable[str], local: Collection, staged: Collection, remedy: str
) -> list[str]:
    """Fetch all plans into a collection aside, and read them.

    Returns:
        Names of those that `local` does not have yet.

    Raises:
        RemoteError: One cannot be read.
        InputError: One is no plan, or contradicts the plan that `local` has.
    """
    new = []
    for name in filter(is_plan, names):
        path = staged.root / name
        ours = local.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(remote.read(name, ours))
        with _refused(f"{remote.url}/{name}"):
            theirs = read_plan(path)
        if not ours.exists():
            new.append(name)
        elif fields := plan_differences(read_plan(ours), theirs):
            address = f"{remote.url}/{name}"
            raise InputError(
                f"{ours}: drawn with another config than {address}: {'; '.join(fields)}; {remedy}"
            )
    return new
