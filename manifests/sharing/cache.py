"""Reading shards straight from a URL: small files are mirrored into a cache, a tar comes when first read.

The cache is a collection like any other, but for `origin.json`, which says where its tars are. So whatever
can list a collection can list it, without a single tar; and `local_tar` brings those that are really read.
"""

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from impure.manifests.base.errors import InputError
from impure.manifests.base.file_lock import file_lock
from impure.manifests.base.files import atomic_path, move_into_place, read_json, write_json
from impure.manifests.collection.collection import Collection, CommittedShard
from impure.manifests.collection.layout import ABOUT
from impure.manifests.collection.shard_lock import commit_lock
from impure.manifests.sharing.connect import connect, open_remote
from impure.manifests.sharing.remote_collection import RemoteCollection
from impure.manifests.sharing.staging import (
    choose,
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


def open_shards(
    shards: str,
    cache: Path,
    *,
    targets: Sequence[str] = (),
    attacks: Sequence[str] = (),
    splits: Sequence[str] = (),
) -> list[CommittedShard]:
    """Find the units of a collection at an fsspec URL; `collection.select`, from far away.

    Markers, manifests and plans are mirrored into the cache, and brought up to date on every call.

    Args:
        shards: The collection's URL, or one with a glob of its tars behind it: `URL/resnet101/*/train/*.tar`.
        cache: Folder for this URL's root alone.
        targets: Keep only these; empty keeps all.
        attacks: Likewise.
        splits: Likewise.

    Raises:
        InputError: It cannot be read, nothing passes the filters, or the cache is another URL's.
    """
    url, glob = parts_of(shards)
    remote = open_remote(url)
    names = remote.names()
    there = [shard_id for shard_id in shard_ids_in(names) if fnmatchcase(f"{shard_id}.tar", glob)]
    wanted = choose(shards, there, targets=targets, attacks=attacks, splits=splits)
    mirror = Collection(cache)
    with commit_lock(mirror):
        _claim(mirror, remote.url)
        staged = Collection(cache / "_tmp" / "mirror")
        for plan in stage_plans(remote, names, mirror, staged, f"delete {cache}"):
            move_into_place(staged.root / plan, cache / plan)
        found = stage_markers(remote, wanted, mirror, staged)
        more = stage_markers(remote, needed_clean_shards(found, shard_ids_in(names)), mirror, staged)
        in_parallel(lambda each: _mirror(remote, mirror, each), [*found, *more])
        if ABOUT in names:
            with atomic_path(mirror.about_path) as temporary:
                temporary.write_bytes(remote.read(ABOUT, mirror.about_path))
    return [replace(mirror.read(shard_id), origin=remote.url) for shard_id in wanted]


def local_tar(committed: CommittedShard) -> Path:
    """The path of a shard's tar, which is fetched first where the shard lies in a cache and its tar does not.

    Safe in any number of threads and processes: one fetches, the others wait; the file appears whole, with
    the bytes that its marker says.

    Raises:
        InputError: It cannot be had.
    """
    if not committed.origin or committed.whole:
        return committed.tar
    part = committed.root / "_tmp" / f"{str(committed.shard_id).replace('/', '.')}.tar"
    with file_lock(part.with_suffix(".lock")):
        if not committed.whole:
            entry = committed.marker["tar"]
            connect(committed.origin).download(
                f"{committed.shard_id}.tar", part, entry["bytes"], entry["sha256"], lambda count: None
            )
            move_into_place(part, committed.tar)
    return committed.tar


def parts_of(shards: str) -> tuple[str, str]:
    """Root and glob of a `--shards` URL."""
    if not shards.endswith(".tar"):
        return shards.rstrip("/"), "*"
    root, *parts = shards.rsplit("/", 4)
    return root, "/".join(parts)


def _claim(mirror: Collection, url: str) -> None:
    """Note where a cache's tars are; refuse a folder that is anything else's."""
    path = mirror.root / ORIGIN
    if not path.exists():
        if mirror.marked():
            raise InputError(f"{mirror.root}: a collection of its own; choose another cache folder")
        write_json(path, {"url": url})
    if read_json(path).get("url") != url:
        raise InputError(f"{mirror.root}: the cache of another address; choose another, or delete it")


def _mirror(remote: RemoteCollection, mirror: Collection, theirs: CommittedShard) -> None:
    """Bring manifest and marker of a shard up to date; a tar of another marker goes."""
    marker, staged = mirror.marker_path(theirs.shard_id), theirs.stem.with_suffix(".done.json")
    here = mirror.stem(theirs.shard_id).with_suffix(".parquet")
    entry = theirs.marker["manifest"]
    if marker.exists() and marker.read_bytes() != staged.read_bytes():
        for path in (marker, here, here.with_suffix(".tar")):
            path.unlink(missing_ok=True)
    if not here.exists() or here.stat().st_size != entry["bytes"]:
        remote.download(
            f"{theirs.shard_id}.parquet", theirs.manifest, entry["bytes"], entry["sha256"], lambda count: None
        )
        move_into_place(theirs.manifest, here)
    move_into_place(staged, marker)
