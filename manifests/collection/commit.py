"""Put a finished shard in its place: tar, then manifest, then the marker that makes it count."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from impure.manifests.base.canonical_json import differing_fields, digest
from impure.manifests.base.errors import InputError
from impure.manifests.base.files import move_into_place, write_json
from impure.manifests.collection.collection import Collection, CommittedShard
from impure.manifests.collection.marker import Marker
from impure.manifests.collection.shard_id import ShardId
from impure.manifests.collection.shard_lock import commit_lock


def find_committed(
    collection: Collection, shard_id: ShardId, config: Mapping[str, Any], remedy: str = "choose another --out"
) -> CommittedShard | None:
    """The shard if it is committed and whole; None if it has to be made, or made again.

    Args:
        collection: Where.
        shard_id: Which.
        config: What it has to be made with.
        remedy: What helps against another config, for the error message.

    Raises:
        InputError: It was made with another config; the message names the fields.
    """
    if not collection.marker_path(shard_id).exists():
        return None
    try:
        committed = collection.read(shard_id)
    except InputError:
        return None  # a marker that cannot be read says nothing of its files
    if committed.marker["config_digest"] != digest(dict(config)):
        fields = "; ".join(differing_fields(config, committed.marker["config"])) or "only its digest differs"
        raise InputError(f"{committed.tar}: made with another config: {fields}; {remedy}")
    return committed if committed.whole else None


def move_in(
    collection: Collection,
    shard_id: ShardId,
    tar: Path,
    manifest: Path,
    marker: Marker,
    remedy: str = "choose another --out",
) -> Marker:
    """Rename tar, then manifest, then write the marker; unless another process did meanwhile.

    Args:
        collection: Where to.
        shard_id: Which.
        tar: Its tar, on the same file system.
        manifest: Its manifest, on the same file system.
        marker: Says what both hold.
        remedy: See `find_committed`.

    Returns:
        The marker in force: `marker`, or that of the process that was first.

    Raises:
        InputError: The other process made the shard with another config.
    """
    stem = collection.stem(shard_id)
    marker_path = collection.marker_path(shard_id)
    with commit_lock(collection):
        if committed := find_committed(collection, shard_id, marker["config"], remedy):
            return committed.marker
        marker_path.unlink(missing_ok=True)  # of a damaged shard: no reader may see old marker and new files
        move_into_place(tar, stem.with_suffix(".tar"))
        move_into_place(manifest, stem.with_suffix(".parquet"))
        write_json(marker_path, marker)
    return marker
