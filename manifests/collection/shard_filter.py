"""Which committed shards a root or a glob names, and which of them pass a filter."""

from collections.abc import Sequence
from pathlib import Path

from impure.manifests.base.errors import InputError
from impure.manifests.base.patterns import find_files
from impure.manifests.collection.collection import Collection, CommittedShard
from impure.manifests.collection.shard_id import ShardId


def select_shards(
    shards: str,
    *,
    targets: Sequence[str] = (),
    attacks: Sequence[str] = (),
    splits: Sequence[str] = (),
) -> list[CommittedShard]:
    """Find committed shards below a collection's root, or those whose tars match a glob.

    Args:
        shards: `ROOT`, or a glob (or path) of tars such as `ROOT/resnet101/*/train/*.tar` or
            `ROOT/resnet101/pgd/train/{000000..000009}.tar`.
        targets: Keep only these; empty keeps all.
        attacks: Keep only these; empty keeps all.
        splits: Keep only these; empty keeps all.

    Raises:
        InputError: There is no such folder, no committed shard, or nothing passes the filter.
    """
    committed = _find(shards)
    shard_ids = [shard.shard_id for shard in committed]
    kept = set(filter_shards(shards, shard_ids, targets=targets, attacks=attacks, splits=splits))
    return [shard for shard in committed if shard.shard_id in kept]


def filter_shards(
    where: str,
    shard_ids: Sequence[ShardId],
    *,
    targets: Sequence[str] = (),
    attacks: Sequence[str] = (),
    splits: Sequence[str] = (),
) -> list[ShardId]:
    """Keep the shards of some targets, attacks and splits; an empty filter keeps all.

    Args:
        where: What they are shards of, for error messages.
        shard_ids: All that there are.
        targets: Names of targets to keep.
        attacks: Names of attacks to keep, as their folders are called.
        splits: Names of splits to keep.

    Raises:
        InputError: There is no shard at all, a name is not among theirs, or nothing passes all filters.
    """
    if not shard_ids:
        raise InputError(f"{where}: no committed shard there; give the root of a collection")
    kept = list(shard_ids)
    for name, wanted in (("target", targets), ("attack", attacks), ("split", splits)):
        available = sorted({getattr(shard_id, name) for shard_id in shard_ids})
        if missing := sorted(set(wanted) - set(available)):
            raise InputError(f"{where}: no shards of {name} {missing[0]!r}; it has {', '.join(available)}")
        kept = [shard_id for shard_id in kept if not wanted or getattr(shard_id, name) in wanted]
    if not kept:
        raise InputError(f"{where}: no shards are left by the filters on target, attack and split")
    return kept


def _find(shards: str) -> list[CommittedShard]:
    """All committed shards that `shards` points to, before filtering."""
    root = Path(shards)
    if root.is_dir():
        committed = Collection(root).committed
    else:
        tars = [path for path in find_files(shards) if path.suffix == ".tar"]
        if not tars:
            raise InputError(f"{shards}: no such folder, and no .tar file matches; give a collection's root")
        roots = sorted({tar.parents[3] for tar in tars if len(tar.parents) > 3})
        committed = [shard for root in roots for shard in _shards_of_tars(Collection(root), set(tars))]
    if not committed:
        raise InputError(
            f"{shards}: no committed shard there; `impure-data generate --out {shards}` makes some"
        )
    return committed


def _shards_of_tars(collection: Collection, tars: set[Path]) -> list[CommittedShard]:
    """The committed shards of some tars; the markers of others are not read, whatever they hold."""
    stems = {tar.with_suffix("") for tar in tars}
    return [
        collection.read(shard_id) for shard_id in collection.marked() if collection.stem(shard_id) in stems
    ]
