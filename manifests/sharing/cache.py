"""Read shards straight from a URL: small files are mirrored into a cache, a tar comes when first read.

The cache is a collection like any other, but for `origin.json`, which says where its tars are. So whatever
can list a collection can list it, without a single tar; and `CommittedShard.local_tar` fetches those that
are really read.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory

from impure.manifests.base.errors import InputError
from impure.manifests.base.file_lock import file_lock
from impure.manifests.base.files import atomic_path, move_into_place, read_json, write_json
from impure.manifests.base.patterns import expand_braces
from impure.manifests.collection.collection import Collection, CommittedShard
from impure.manifests.collection.layout import ABOUT
from impure.manifests.collection.shard_filter import filter_shards
from impure.manifests.collection.shard_id import ShardId
from impure.manifests.collection.shard_lock import commit_lock
from impure.manifests.sharing.connect import connect, open_remote
from impure.manifests.sharing.remote_collection import RemoteCollection
from impure.manifests.sharing.staging import (
    in_parallel,
    needed_clean_shards,
    shard_ids_in,
    stage_markers,
    stage_plans,
)

ORIGIN = "origin.json"


def is_url(shards: str) -> bool:
    """Whether `--shards` names something far away."""
    return "://" in shards


def split_url(shards: str) -> tuple[str, str]:
    """Root and glob of a `--shards` URL."""
    if not shards.endswith(".tar"):
        return shards.rstrip("/"), "*"
    root, *parts = shards.rsplit("/", 4)
    return root, "/".join(parts)


def open_cached_shards(
    shards: str,
    cache: Path,
    *,
    targets: Sequence[str] = (),
    attacks: Sequence[str] = (),
    splits: Sequence[str] = (),
) -> list[CommittedShard]:
    """Find the shards of a collection at an fsspec URL: as `select_shards`, but from far away.

    Markers, manifests and plans are mirrored into the cache, and brought up to date on every call.

    Args:
        shards: The collection's URL, or one with a glob of its tars behind it: `URL/resnet101/*/train/*.tar`.
        cache: Folder for this URL's root alone.
        targets: Keep only the shards of these targets; empty keeps all.
        attacks: Keep only the shards of these attacks; empty keeps all.
        splits: Keep only the shards of these splits; empty keeps all.

    Raises:
        InputError: Nothing passes the filters, or the cache is another URL's.
        RemoteError: The collection cannot be read.
    """
    url, glob = split_url(shards)
    remote = open_remote(url)
    names = remote.names()
    globs = list(expand_braces(glob))
    matching = [
        shard_id
        for shard_id in shard_ids_in(names)
        if any(fnmatchcase(f"{shard_id}.tar", alternative) for alternative in globs)
    ]
    wanted = filter_shards(shards, matching, targets=targets, attacks=attacks, splits=splits)
    cached = Collection(cache)
    with commit_lock(cached):
        _check_origin(cached, remote.url)
        _mirror_small_files(remote, names, wanted, cached)
    return [replace(cached.read(shard_id), origin=RemoteTars(remote.url)) for shard_id in wanted]


@dataclass(frozen=True, slots=True)
class RemoteTars:
    """The tars of a collection at a URL: where those of its cache come from (see `TarOrigin`)."""

    url: str

    def fetch(self, shard: CommittedShard) -> None:
        """Download a shard's tar into the cache.

        Safe in any number of threads and processes: one downloads, the others wait; the file appears whole,
        with the bytes that its marker says.

        Raises:
            RemoteError: It cannot be read.
        """
        part = shard.root / "_tmp" / f"{str(shard.shard_id).replace('/', '.')}.tar"
        with file_lock(part.with_suffix(".lock")) as alone:
            if not shard.whole:
                if not alone:  # others may fetch it at the same time
                    part = part.with_suffix(f".{uuid.uuid4().hex}.tar")
                entry = shard.marker["tar"]
                remote = connect(self.url)
                remote.download(f"{shard.shard_id}.tar", part, entry["bytes"], entry["sha256"])
                move_into_place(part, shard.tar)


def _check_origin(cached: Collection, url: str) -> None:
    """Note where a cache's tars are; refuse a folder that is anything else's."""
    path = cached.root / ORIGIN
    if not path.exists():
        if cached.marked():
            raise InputError(f"{cached.root}: a collection of its own; choose another cache folder")
        write_json(path, {"url": url})
    if read_json(path).get("url") != url:
        raise InputError(f"{cached.root}: the cache of another address; choose another, or delete it")


def _mirror_small_files(
    remote: RemoteCollection, names: Sequence[str], wanted: Sequence[ShardId], cached: Collection
) -> None:
    """Bring all of a cache up to date but its tars: plans, markers, manifests, collection.json."""
    with TemporaryDirectory(dir=cached.root / "_tmp", prefix="mirror-") as folder:
        _mirror_through(Collection(Path(folder)), remote, names, wanted, cached)
    if ABOUT in names:
        with atomic_path(cached.about_path) as temporary:
            temporary.write_bytes(remote.read(ABOUT, cached.about_path))


def _mirror_through(
    staged: Collection,
    remote: RemoteCollection,
    names: Sequence[str],
    wanted: Sequence[ShardId],
    cached: Collection,
) -> None:
    """Bring plans, markers and manifests of a cache up to date; each grows in a collection aside."""
    for plan in stage_plans(remote, names, cached, staged, f"delete {cached.root}"):
        move_into_place(staged.root / plan, cached.root / plan)
    shards = stage_markers(remote, wanted, cached, staged)
    shards += stage_markers(remote, needed_clean_shards(shards, shard_ids_in(names)), cached, staged)
    in_parallel(lambda shard: _mirror_shard(remote, cached, shard), shards)


def _mirror_shard(remote: RemoteCollection, cached: Collection, theirs: CommittedShard) -> None:
    """Bring manifest and marker of a shard up to date; a tar of another marker is removed."""
    staged_marker = theirs.stem.with_suffix(".done.json")
    marker = cached.marker_path(theirs.shard_id)
    manifest = cached.stem(theirs.shard_id).with_suffix(".parquet")
    if marker.exists() and marker.read_bytes() != staged_marker.read_bytes():
        for path in (marker, manifest, manifest.with_suffix(".tar")):
            path.unlink(missing_ok=True)
    entry = theirs.marker["manifest"]
    if not manifest.exists() or manifest.stat().st_size != entry["bytes"]:
        remote.download(f"{theirs.shard_id}.parquet", theirs.manifest, entry["bytes"], entry["sha256"])
        move_into_place(theirs.manifest, manifest)
    move_into_place(staged_marker, marker)
