"""Collections from one place to another: in part, resumed, checked, and never seen half."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from impure.manifests.base.canonical_json import differing_fields, digest, parse_object
from impure.manifests.base.errors import InputError
from impure.manifests.base.file_lock import take_lock
from impure.manifests.base.files import atomic_path, disk_errors_named, move_into_place, sha256_file, sync
from impure.manifests.collection.collection import Collection, CommittedShard
from impure.manifests.collection.commit import find_committed, move_in
from impure.manifests.collection.layout import ABOUT, KIT, SUMS, is_plan, parse_sums
from impure.manifests.collection.shard_id import ShardId
from impure.manifests.collection.shard_lock import commit_lock
from impure.manifests.sharing.filesystem import Advance, Share, connect, open_share
from impure.manifests.sharing.staging import (
    choose,
    clean_shards,
    in_parallel,
    shard_ids_in,
    stage_markers,
    stage_plans,
)

Progress = Callable[[int, int], object]
"""Called, from several threads, with bytes since the last call (negative: lost again) and bytes in all."""

KINDS = {"tar": ".tar", "manifest": ".parquet"}
ELSEWHERE = "pull into another folder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """What a transfer did.

    Attributes:
        shards: Shards asked for.
        there: Those of them that were there already.
        bytes: Of the tars and manifests of the others.
        described: Whether collection.json and card of the source describe all that now lies at the goal, and
            went along; if not, `impure-data card` should be run there.
    """

    shards: int
    there: int
    bytes: int
    described: bool


def _no_progress(count: int, total: int) -> None:
    """Nobody watches."""


def pull(
    url: str,
    root: Path,
    *,
    targets: Sequence[str] = (),
    attacks: Sequence[str] = (),
    splits: Sequence[str] = (),
    progress: Progress = _no_progress,
) -> Transfer:
    """Fetch a collection, or part of it, from an fsspec URL or a path. Killed, the same call goes on.

    Plans always come; where attacks store no clean images, the clean units of their targets and splits come
    too. Files grow below `_tmp`, are hashed, and are moved into place marker last.

    Args:
        url: The collection's root.
        root: Local folder, made if it is missing.
        targets: Only these; empty takes all.
        attacks: Likewise.
        splits: Likewise.
        progress: See `Progress`.

    Raises:
        InputError: It cannot be read, nothing passes the filters, files are not what their markers say, or a
            plan or shard that is here contradicts.
    """
    share, collection = open_share(url), Collection(root)
    names = share.names()
    there = shard_ids_in(names)
    wanted = choose(share.url, there, targets=targets, attacks=attacks, splits=splits)
    with disk_errors_named(root), _staging(collection, share.url) as staged:
        plans = stage_plans(share, names, collection, staged, ELSEWHERE)
        found = stage_markers(share, wanted, collection, staged)
        found += stage_markers(share, clean_shards(found, there), collection, staged)
        todo = [each for each in found if not _is_there(collection, each)]
        total = _bytes(todo)
        with commit_lock(collection):
            for plan in plans:
                move_into_place(staged.root / plan, root / plan)
        in_parallel(
            lambda each: _pull_shard(share, collection, each, lambda count: progress(count, total)), todo
        )
        described = collection.marked() == there and _plans(collection) == set(filter(is_plan, names))
        _pull_about(share, collection, names, whole=described)
    return Transfer(shards=len(found), there=len(found) - len(todo), bytes=total, described=described)


def _bytes(shards: Sequence[CommittedShard]) -> int:
    """Of tars and manifests."""
    return sum(int(each.marker[kind]["bytes"]) for each in shards for kind in KINDS)


def _plans(collection: Collection) -> set[str]:
    """Names of the plans that a local collection has."""
    return {f"plans/{path.name}" for path in collection.root.glob("plans/*.parquet")}


@contextmanager
def _staging(collection: Collection, url: str) -> Iterator[Collection]:
    """A collection aside in which files grow; it outlives a kill, and one process at a time may use it."""
    folder = collection.root / "_tmp" / f"pull-{hashlib.sha256(url.encode()).hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    with (collection.root / "_tmp" / "pull.lock").open("w") as lock:
        if not take_lock(lock, wait=False):
            raise InputError(f"{collection.root}: another pull into it is running")
        yield Collection(folder)
        shutil.rmtree(folder)


def _is_there(collection: Collection, theirs: CommittedShard) -> bool:
    """Whether a unit of a share is here, whole, already.

    Raises:
        InputError: It is, but with another config or other bytes.
    """
    ours = find_committed(collection, theirs.shard_id, theirs.marker["config"], ELSEWHERE)
    return ours is not None and _is_same(ours, theirs, ELSEWHERE)


def _is_same(ours: CommittedShard, theirs: CommittedShard, remedy: str) -> bool:
    """Always, or an error: two units of one name must be of one config and one run.

    Raises:
        InputError: They are not; the message names the fields.
    """
    configs = ours.marker["config"], theirs.marker["config"]
    if digest(configs[0]) != digest(configs[1]):
        raise InputError(
            f"{theirs.shard_id}: made with another config: {'; '.join(differing_fields(*configs))}; {remedy}"
        )
    if any(ours.marker[kind]["sha256"] != theirs.marker[kind]["sha256"] for kind in KINDS):
        raise InputError(
            f"{theirs.shard_id}: made with the same config, but in another run, with other bytes; {remedy}"
        )
    return True


def _pull_shard(share: Share, collection: Collection, theirs: CommittedShard, advance: Advance) -> None:
    """Fetch tar and manifest of a shard whose marker is staged, and commit it."""
    for kind, ending in KINDS.items():
        size, sha256 = theirs.marker[kind]["bytes"], theirs.marker[kind]["sha256"]
        staged, here = theirs.stem.with_suffix(ending), collection.stem(theirs.shard_id).with_suffix(ending)
        with commit_lock(collection):  # a pull that was killed between its renames left the file in place
            if here.is_file() and here.stat().st_size == size and sha256_file(here) == sha256:
                os.replace(here, staged)
        share.download(f"{theirs.shard_id}{ending}", staged, size, sha256, advance)
        sync(staged)
    move_in(collection, theirs.shard_id, theirs.tar, theirs.manifest, theirs.marker, ELSEWHERE)


def _pull_about(share: Share, collection: Collection, names: Sequence[str], *, whole: bool) -> None:
    """Fetch collection.json and the card where they describe what is here; else write the former anew."""
    for name in (ABOUT, *KIT) if whole else ():
        if name in names:
            with atomic_path(collection.root / name) as temporary:
                temporary.write_bytes(share.read(name))
    if not whole:
        here = collection.about() if collection.about_path.exists() else {}
        theirs = parse_object(share.read(ABOUT), f"{share.url}/{ABOUT}") if ABOUT in names else {}
        with commit_lock(collection):
            collection.write_about({"software": here.get("software") or theirs.get("software", {})})


def push(root: Path, url: str, *, progress: Progress = _no_progress) -> Transfer:
    """Copy a collection to an fsspec URL or a path. Killed, the same call goes on.

    Every file is hashed before it leaves; a marker follows its tar and manifest; the card comes last.

    Args:
        root: The collection; if it has a card, then one of its present state.
        url: Where to; another collection may lie there as long as nothing contradicts.
        progress: See `Progress`.

    Raises:
        InputError: Files are not what their markers say, the card is an old one, the goal cannot be written,
            or a plan or shard that is there contradicts.
    """
    collection, share = Collection(root), connect(url)
    if share.sums is not None:
        raise InputError(f"{url}: a web server takes no files; push to s3://, gs://, hf:// or a folder")
    shards = collection.committed
    if not shards:
        raise InputError(f"{root}: no committed shard there")
    _check_card(collection)
    if share.is_local:  # a disk has what no other filesystem has: atomic renames
        return pull(str(root.resolve()), Path(share.base), progress=progress)
    names = share.names()
    theirs = _offered(share, names, collection)
    todo = [
        each
        for each in shards
        if each.shard_id not in theirs or not _is_same(each, theirs[each.shard_id], "push elsewhere")
    ]
    total, plans = _bytes(todo), _plans(collection)
    for plan in sorted(plans):
        share.upload(root / plan, plan)
    in_parallel(lambda each: _push_shard(share, each, lambda count: progress(count, total)), todo)
    described = set(theirs) <= set(collection.marked()) and set(filter(is_plan, names)) <= plans
    for name in (ABOUT, *KIT) if described else ():
        if (root / name).exists():
            share.upload(root / name, name)
    return Transfer(shards=len(shards), there=len(shards) - len(todo), bytes=total, described=described)


def _offered(share: Share, names: Sequence[str], collection: Collection) -> dict[ShardId, CommittedShard]:
    """The shards that a share has already; its plans must be those of the local collection."""
    with TemporaryDirectory() as folder:
        staged = Collection(Path(folder))
        stage_plans(share, names, collection, staged, "push elsewhere")
        return {each.shard_id: each for each in stage_markers(share, shard_ids_in(names), collection, staged)}


def _push_shard(share: Share, each: CommittedShard, advance: Advance) -> None:
    """Send tar, manifest, then the marker."""
    for kind, ending in KINDS.items():
        path = each.stem.with_suffix(ending)
        if not path.is_file() or sha256_file(path) != each.marker[kind]["sha256"]:
            raise InputError(f"{path}: not what its marker says; see `impure-data verify {each.root}`")
        share.upload(path, f"{each.shard_id}{ending}")
        advance(each.marker[kind]["bytes"])
    share.upload(each.stem.with_suffix(".done.json"), f"{each.shard_id}.done.json")


def _check_card(collection: Collection) -> None:
    """Refuse to share an old card: SHA256SUMS must be of the markers, plans and texts that are there.

    Raises:
        InputError: It is not.
    """
    path = collection.root / SUMS
    if not path.exists():
        return
    sums = parse_sums(path.read_text(encoding="utf-8"), str(path))
    known = {f"{shard_id}.done.json" for shard_id in collection.marked()} | _plans(collection) | {ABOUT}
    listed = {name for name in sums if not name.endswith((".tar", ".parquet")) or is_plan(name)}
    fresh = all(
        (collection.root / name).is_file() and sha256_file(collection.root / name) == sums[name]
        for name in listed
    )
    if not fresh or listed - set(KIT) != known:
        raise InputError(f"{path}: an old card; run `impure-data card {collection.root}` first")
