"""Download a collection: in part, resumed, checked, and never seen half."""

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from impure.manifests.base.canonical_json import parse_object
from impure.manifests.base.errors import InputError
from impure.manifests.base.file_lock import take_lock
from impure.manifests.base.files import atomic_path, disk_errors_named, move_into_place, sha256_file, sync
from impure.manifests.collection.collection import Collection, CommittedShard
from impure.manifests.collection.commit import find_committed, move_in
from impure.manifests.collection.layout import ABOUT, KIT, is_plan
from impure.manifests.collection.shard_filter import filter_shards
from impure.manifests.collection.shard_id import ShardId
from impure.manifests.collection.shard_lock import commit_lock
from impure.manifests.sharing.connect import open_remote
from impure.manifests.sharing.remote_collection import Advance, RemoteCollection
from impure.manifests.sharing.staging import (
    in_parallel,
    needed_clean_shards,
    shard_ids_in,
    stage_markers,
    stage_plans,
)
from impure.manifests.sharing.transfer import (
    Progress,
    Transfer,
    check_same_run,
    no_progress,
    plan_names,
    total_bytes,
)

_REMEDY = "pull into another folder"


def pull(
    url: str,
    root: Path,
    *,
    targets: Sequence[str] = (),
    attacks: Sequence[str] = (),
    splits: Sequence[str] = (),
    progress: Progress = no_progress,
) -> Transfer:
    """Download a collection, or part of it, from an fsspec URL or a path. Killed, the same call goes on.

    Plans always come; where attacks store no clean images, the clean shards of their targets and splits come
    too. Files grow below `_tmp`, are hashed, and are moved into place marker last.

    Args:
        url: The collection's root.
        root: Local folder, made if it is missing.
        targets: Only shards of these targets; empty takes all.
        attacks: Only shards of these attacks; empty takes all.
        splits: Only shards of these splits; empty takes all.
        progress: See `Progress`.

    Raises:
        InputError: Nothing passes the filters, or a plan or shard in `root` contradicts.
        RemoteError: A file cannot be read, or is not what its marker says.
    """
    remote = open_remote(url)
    names = remote.names()
    wanted = filter_shards(remote.url, shard_ids_in(names), targets=targets, attacks=attacks, splits=splits)
    return _pull_shards(remote, names, wanted, Collection(root), progress)


def _pull_shards(
    remote: RemoteCollection,
    names: Sequence[str],
    wanted: Sequence[ShardId],
    collection: Collection,
    progress: Progress,
) -> Transfer:
    """Download some shards, and the clean shards that they need (see `pull`)."""
    available = shard_ids_in(names)
    with disk_errors_named(collection.root), _staging(collection, remote.url) as staged:
        new_plans = stage_plans(remote, names, collection, staged, _REMEDY)
        shards = stage_markers(remote, wanted, collection, staged)
        shards += stage_markers(remote, needed_clean_shards(shards, available), collection, staged)
        absent = [shard for shard in shards if not _is_present(collection, shard)]
        total = total_bytes(absent)
        with commit_lock(collection):
            for plan in new_plans:
                move_into_place(staged.root / plan, collection.root / plan)
        in_parallel(
            lambda shard: _pull_shard(remote, collection, shard, lambda count: progress(count, total)), absent
        )
        plans = set(filter(is_plan, names))
        complete = collection.marked() == available and plan_names(collection) == plans
        if complete:
            _copy_card(remote, collection, names)
        else:
            _renew_about(remote, collection, names)
    present = len(shards) - len(absent)
    return Transfer(shards=len(shards), present=present, bytes=total, card_copied=complete)


@contextmanager
def _staging(collection: Collection, url: str) -> Iterator[Collection]:
    """A collection aside in which files grow; it outlives a kill, and one process at a time may use it."""
    folder = collection.root / "_tmp" / f"pull-{hashlib.sha256(os.fsencode(url)).hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    with (collection.root / "_tmp" / "pull.lock").open("w") as lock:
        if not take_lock(lock, folder.with_name("pull.lock"), wait=False):
            raise InputError(f"{collection.root}: another pull into it is running")
        yield Collection(folder)
        shutil.rmtree(folder)


def _is_present(collection: Collection, theirs: CommittedShard) -> bool:
    """Whether a remote shard is in the local collection, whole, already.

    Raises:
        InputError: It is, but with another config or other bytes.
    """
    ours = find_committed(collection, theirs.shard_id, theirs.marker["config"], _REMEDY)
    if ours is not None:
        check_same_run(ours, theirs, _REMEDY)
    return ours is not None


def _pull_shard(
    remote: RemoteCollection, collection: Collection, theirs: CommittedShard, advance: Advance
) -> None:
    """Download tar and manifest of a shard whose marker is staged, and commit it."""
    for staged, entry in theirs.files:
        size, sha256 = entry["bytes"], entry["sha256"]
        final = collection.stem(theirs.shard_id).with_suffix(staged.suffix)
        with commit_lock(collection):  # a pull that was killed between its renames left the file in place
            if final.is_file() and final.stat().st_size == size and sha256_file(final) == sha256:
                os.replace(final, staged)
        remote.download(f"{theirs.shard_id}{staged.suffix}", staged, size, sha256, advance)
        sync(staged)
    move_in(collection, theirs.shard_id, theirs.tar, theirs.manifest, theirs.marker, _REMEDY)


def _copy_card(remote: RemoteCollection, collection: Collection, names: Sequence[str]) -> None:
    """Download collection.json and the card, which describe all that is in the local collection now."""
    for name in (ABOUT, *KIT):
        if name in names:
            with atomic_path(collection.root / name) as temporary:
                temporary.write_bytes(remote.read(name))


def _renew_about(remote: RemoteCollection, collection: Collection, names: Sequence[str]) -> None:
    """Write collection.json of a part of a collection; of the software only the pipeline's run knows."""
    ours = collection.about() if collection.about_path.exists() else {}
    theirs = parse_object(remote.read(ABOUT), f"{remote.url}/{ABOUT}") if ABOUT in names else {}
    with commit_lock(collection):
        collection.write_about({"software": ours.get("software") or theirs.get("software", {})})
