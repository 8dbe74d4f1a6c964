"""Which committed shards a root or a glob names, and which of them pass a filter."""

import glob
from collections.abc import Sequence
from pathlib import Path

from impure.manifests.base.errors import InputError
from impure.manifests.collection.collection import Collection, CommittedShard


def select_shards(
    shards: str,
    *,
    targets: Sequence[str] = (),
    attacks: Sequence[str] = (),
    splits: Sequence[str] = (),
) -> list[CommittedShard]:
    """Find committed shards below a collection's root, or those whose tars match a glob.

    Args:
        shards: `ROOT`, or a glob (or path) of tars such as `ROOT/resnet101/*/train/*.tar`.
        targets: Keep only these; empty keeps all.
        attacks: Likewise.
        splits: Likewise.

    Raises:
        InputError: There is no such folder, no committed shard, or nothing passes the filter.
    """
    committed = _find(shards)
    for name, wanted in (("target", targets), ("attack", attacks), ("split", splits)):
        there = sorted({getattr(each.shard_id, name) for each in committed})
        if missing := sorted(set(wanted) - set(there)):
            raise InputError(f"{shards}: no shards of {name} {missing[0]!r}; it has {', '.join(there)}")
        committed = [each for each in committed if not wanted or getattr(each.shard_id, name) in wanted]
    if not committed:
        raise InputError(f"{shards}: no shards are left by the filters on target, attack and split")
    return committed


def _find(shards: str) -> list[CommittedShard]:
    """All committed shards that `shards` points to, before filtering."""
    root = Path(shards)
    if root.is_dir():
        committed = Collection(root).committed
    else:
        tars = [Path(name).absolute() for name in sorted(glob.glob(shards)) if name.endswith(".tar")]
        if not tars:
            raise InputError(f"{shards}: no such folder, and no .tar file matches; give a collection's root")
        roots = sorted({tar.parents[3] for tar in tars if len(tar.parents) > 3})
        committed = [each for root in roots for each in _of(Collection(root), set(tars))]
    if not committed:
        raise InputError(
            f"{shards}: no committed shard there; `impure-data generate --out {shards}` makes some"
        )
    return committed


def _of(collection: Collection, tars: set[Path]) -> list[CommittedShard]:
    """The committed units of some tars; the markers of others are not read, whatever they hold."""
    stems = {tar.with_suffix("") for tar in tars}
    return [
        collection.read(shard_id) for shard_id in collection.marked() if collection.stem(shard_id) in stems
    ]
