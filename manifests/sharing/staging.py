"""What a share offers, fetched aside and checked before anything here is touched: markers and plans."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from impure.manifests.base.errors import InputError
from impure.manifests.collection.collection import Collection, CommittedShard
from impure.manifests.collection.layout import is_plan
from impure.manifests.collection.plan import plan_differences, read_plan
from impure.manifests.collection.shard_id import CLEAN, ShardId, parse_shard_id
from impure.manifests.sharing.filesystem import Share

Item = TypeVar("Item")
Result = TypeVar("Result")

THREADS = 4
CLEAN_ONCE = "clean-once"  # storage profile: the attacks' shards hold no clean images, the clean shards do


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


def choose(url: str, shard_ids: Sequence[ShardId], **wanted: Sequence[str]) -> list[ShardId]:
    """Keep the units of some `targets`, `attacks` and `splits`; empty keeps all.

    Raises:
        InputError: There is no shard at all, a name is not there, or nothing is left.
    """
    if not shard_ids:
        raise InputError(f"{url}: no committed shard there; give the root of a collection")
    left = list(shard_ids)
    for plural, chosen in wanted.items():
        name = plural.removesuffix("s")
        there = sorted({getattr(shard_id, name) for shard_id in shard_ids})
        if missing := sorted(set(chosen) - set(there)):
            raise InputError(f"{url}: no shards of {name} {missing[0]!r}; it has {', '.join(there)}")
        left = [shard_id for shard_id in left if not chosen or getattr(shard_id, name) in chosen]
    if not left:
        raise InputError(f"{url}: no shards are left by the filters on target, attack and split")
    return left


def stage_markers(
    share: Share, shard_ids: Iterable[ShardId], here: Collection, staged: Collection
) -> list[CommittedShard]:
    """Fetch the markers of some shards into a collection aside, and read them.

    Args:
        share: Where from.
        shards: Which.
        here: The collection that they are meant for; its copies may spare the way.
        staged: The collection aside.

    Raises:
        InputError: One cannot be had or read, or is another shard's.
    """

    def stage(shard_id: ShardId) -> CommittedShard:
        path = staged.marker_path(shard_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(share.read(f"{shard_id}.done.json", here.marker_path(shard_id)))
        with _blaming(f"{share.url}/{shard_id}.done.json"):
            committed = staged.read(shard_id)
            if committed.marker["shard_id"] != str(shard_id):
                raise InputError("it is the marker of another shard")
        return committed

    return in_parallel(stage, shard_ids)


@contextmanager
def _blaming(address: str) -> Iterator[None]:
    """Name the file far away, of which only a copy was found bad."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{address}: refused ({error})") from error


def clean_shards(found: Sequence[CommittedShard], there: Sequence[ShardId]) -> list[ShardId]:
    """The clean shards, not among those found, that hold the clean images of those found."""
    have = {each.shard_id for each in found}
    lacking = {(each.shard_id.target, each.shard_id.split) for each in found if _profile(each) == CLEAN_ONCE}
    return [
        shard_id
        for shard_id in there
        if shard_id.attack == CLEAN and (shard_id.target, shard_id.split) in lacking and shard_id not in have
    ]


def _profile(committed: CommittedShard) -> object:
    """How a shard's images are stored."""
    storage = committed.marker["config"].get("storage")
    return storage.get("profile") if isinstance(storage, dict) else None


def stage_plans(
    share: Share, names: Iterable[str], here: Collection, staged: Collection, remedy: str
) -> list[str]:
    """Fetch all plans into a collection aside, and read them.

    Returns:
        Their names that are not in `here` yet.

    Raises:
        InputError: One cannot be had or read, or contradicts the plan that `here` has.
    """
    new = []
    for name in filter(is_plan, names):
        path, ours = staged.root / name, here.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(share.read(name, ours))
        with _blaming(f"{share.url}/{name}"):
            theirs = read_plan(path)
        if not ours.exists():
            new.append(name)
        elif fields := plan_differences(read_plan(ours), theirs):
            raise InputError(
                f"{ours}: drawn with another config than {share.url}/{name}: {'; '.join(fields)}; {remedy}"
            )
    return new
