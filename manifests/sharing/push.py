"""Upload a collection: hashed before it leaves, resumed, each marker after its files."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from impure.manifests.base.errors import InputError
from impure.manifests.base.files import sha256_file
from impure.manifests.collection.collection import Collection, CommittedShard
from impure.manifests.collection.layout import ABOUT, KIT, SUMS, is_plan, parse_sums
from impure.manifests.collection.shard_id import ShardId
from impure.manifests.sharing.connect import connect
from impure.manifests.sharing.pull import pull
from impure.manifests.sharing.remote_collection import Advance, RemoteCollection
from impure.manifests.sharing.staging import in_parallel, shard_ids_in, stage_marker, stage_plans
from impure.manifests.sharing.transfer import (
    Progress,
    Transfer,
    check_same_run,
    no_progress,
    plan_names,
    total_bytes,
)

_REMEDY = "push elsewhere"


def push(root: Path, url: str, *, progress: Progress = no_progress) -> Transfer:
    """Copy a collection to an fsspec URL or a path. Killed, the same call goes on.

    Every file is hashed before it leaves; a marker follows its tar and manifest; the card comes last.

    Args:
        root: The collection; if it has a card, then one of its present state.
        url: Where to; another collection may lie there as long as nothing contradicts.
        progress: See `Progress`.

    Raises:
        InputError: Files are not what their markers say, the card is an old one, or a plan or shard at the
            destination contradicts.
        RemoteError: The destination cannot be read or written.
    """
    collection = Collection(root)
    remote = connect(url)
    if remote.sums is not None:
        raise InputError(f"{url}: a web server takes no files; push to s3://, gs://, hf:// or a folder")
    if not collection.committed:
        raise InputError(f"{root}: no committed shard there")
    _check_card(collection)
    if remote.is_local:  # a disk has what no other filesystem has: atomic renames
        return pull(str(root.resolve()), Path(remote.root), progress=progress)
    return _push_all(collection, remote, progress)


def _push_all(collection: Collection, remote: RemoteCollection, progress: Progress) -> Transfer:
    """Upload plans, then shards, then the card if it describes all that the destination holds."""
    sizes = remote.sizes()
    shards = collection.committed
    theirs = _remote_shards(remote, sorted(sizes), collection)
    for shard in shards:
        if shard.shard_id in theirs:
            check_same_run(shard, theirs[shard.shard_id], _REMEDY)
    absent = [shard for shard in shards if shard.shard_id not in theirs or not _is_whole(shard, sizes)]
    total = total_bytes(absent)
    plans = plan_names(collection)
    for plan in sorted(plans):
        remote.upload(collection.root / plan, plan)
    in_parallel(lambda shard: _push_shard(remote, shard, lambda count: progress(count, total)), absent)
    complete = set(shard_ids_in(sizes)) <= set(collection.marked()) and set(filter(is_plan, sizes)) <= plans
    if complete:
        _push_card(remote, collection)
    present = len(shards) - len(absent)
    return Transfer(shards=len(shards), present=present, bytes=total, card_copied=complete)


def _remote_shards(
    remote: RemoteCollection, names: Sequence[str], collection: Collection
) -> dict[ShardId, CommittedShard]:
    """What the destination's markers say of the local collection's shards; its plans must be the same.

    A marker that cannot be read says nothing of its files: the shard counts as absent, as on a disk.
    """
    shared = sorted(set(collection.marked()).intersection(shard_ids_in(names)))
    with TemporaryDirectory() as folder:
        staged = Collection(Path(folder))
        stage_plans(remote, names, collection, staged, _REMEDY)

        def read(shard_id: ShardId) -> CommittedShard | None:
            with suppress(InputError):
                return stage_marker(remote, shard_id, collection, staged)
            return None

        shards = in_parallel(read, shared)
    return {shard.shard_id: shard for shard in shards if shard is not None}


def _is_whole(shard: CommittedShard, sizes: Mapping[str, int]) -> bool:
    """Whether the destination lists tar and manifest of a shard with the sizes that the marker says."""
    return all(sizes.get(f"{shard.shard_id}{path.suffix}") == entry["bytes"] for path, entry in shard.files)


def _push_shard(remote: RemoteCollection, shard: CommittedShard, advance: Advance) -> None:
    """Upload tar, manifest, then the marker."""
    for path, entry in shard.files:
        if not path.is_file() or sha256_file(path) != entry["sha256"]:
            raise InputError(f"{path}: not what its marker says; see `impure-data verify {shard.root}`")
        remote.upload(path, f"{shard.shard_id}{path.suffix}")
        advance(entry["bytes"])
    remote.upload(shard.stem.with_suffix(".done.json"), f"{shard.shard_id}.done.json")


def _push_card(remote: RemoteCollection, collection: Collection) -> None:
    """Upload collection.json and what there is of the card, SHA256SUMS last."""
    for name in (ABOUT, *KIT):
        if (collection.root / name).exists():
            remote.upload(collection.root / name, name)


def _check_card(collection: Collection) -> None:
    """Refuse to share an old card: SHA256SUMS must be of the markers, plans and texts that are there.

    Raises:
        InputError: It is not.
    """
    path = collection.root / SUMS
    if not path.exists():
        return
    sums = parse_sums(path.read_text(encoding="utf-8"), str(path))
    markers = {f"{shard_id}.done.json" for shard_id in collection.marked()}
    expected = markers | plan_names(collection) | {ABOUT}
    summed = {name for name in sums if not name.endswith((".tar", ".parquet")) or is_plan(name)}
    fresh = all(_has_hash(collection.root / name, sums[name]) for name in summed)
    if not fresh or summed - set(KIT) != expected:
        raise InputError(f"{path}: an old card; run `impure-data card {collection.root}` first")


def _has_hash(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_file(path) == sha256
