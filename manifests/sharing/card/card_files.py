"""The files that a card lists: configurations of `load_dataset`, indices of `wids`, SHA-256 sums."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypedDict

from impure.manifests.base.errors import InputError
from impure.manifests.base.files import sha256_file
from impure.manifests.collection.collection import CommittedShard
from impure.manifests.collection.shard_id import CLEAN, SPLITS
from impure.manifests.collection.storage_profiles import CLEAN_ONCE, PAIRS, PNG


class IndexedShard(TypedDict):
    """A shard as `wids` names its parts."""

    url: str
    nsamples: int
    filesize: int


class ShardIndex(TypedDict):
    """An index of shards as `wids` reads it."""

    __kind__: str
    wids_version: int
    name: str
    shardlist: list[IndexedShard]


def load_configs(shards: Sequence[CommittedShard]) -> dict[str, dict[str, list[str]]]:
    """What `load_dataset` offers: configuration -> split -> paths of tars.

    Shards with different members cannot be one table, so each way of storing is a configuration. The
    manifests are none: `datasets` reads all configurations of a card with the builder of the first, and fails
    on Parquet files beside tars.
    """
    groups: dict[str, list[CommittedShard]] = {}
    for shard in shards:
        if shard.marker["counts"]["stored"]:
            groups.setdefault(_config_name(shard), []).append(shard)
    ordered = sorted(groups, key=lambda name: (name != PAIRS, name))  # the first is the default
    return {name: _paths_by_split(groups[name]) for name in ordered}


def _config_name(shard: CommittedShard) -> str:
    """Configuration of `load_dataset`: shards with the same members share one."""
    storage = shard.storage
    only_clean = shard.shard_id.attack == CLEAN and storage.profile == CLEAN_ONCE
    name = CLEAN if only_clean else storage.profile
    return name if storage.encoding == PNG else f"{name}-{storage.encoding}"


def _paths_by_split(shards: Sequence[CommittedShard]) -> dict[str, list[str]]:
    """Paths of the tars of each split that has any."""
    by_split = {split: [shard for shard in shards if shard.shard_id.split == split] for split in SPLITS}
    return {split: file_patterns(members, ".tar") for split, members in by_split.items() if members}


def file_patterns(shards: Sequence[CommittedShard], ending: str) -> list[str]:
    """A glob for each folder of which every such file is committed; for others file by file."""
    folders: dict[Path, list[CommittedShard]] = {}
    for shard in shards:
        folders.setdefault(shard.stem.parent, []).append(shard)
    patterns: list[str] = []
    for folder, members in folders.items():
        files = {shard.stem.with_suffix(ending) for shard in members}
        if set(folder.glob(f"*{ending}")) == files:
            patterns.append(f"{folder.relative_to(members[0].root).as_posix()}/*{ending}")
        else:
            patterns += [f"{shard.shard_id}{ending}" for shard in members]
    return patterns


def shard_index(shards: Sequence[CommittedShard], split: str) -> ShardIndex:
    """The shards of a split as `wids` reads them, for random access."""
    indexed = [
        IndexedShard(
            url=f"{shard.shard_id}.tar",
            nsamples=shard.marker["counts"]["stored"],
            filesize=shard.marker["tar"]["bytes"],
        )
        for shard in shards
        if shard.shard_id.split == split and shard.marker["counts"]["stored"]
    ]
    return {"__kind__": "wids-shard-index-v1", "wids_version": 1, "name": split, "shardlist": indexed}


def shard_sums(
    shards: Sequence[CommittedShard], progress: Callable[[int], object]
) -> Iterator[tuple[str, str]]:
    """Hash the files of all shards: names and SHA-256.

    Args:
        shards: Whose.
        progress: Called with 1 for each tar and manifest that has been hashed.

    Raises:
        InputError: One is not what its marker says.
    """
    for shard in shards:
        for path, entry in shard.files:
            sha256 = sha256_file(path) if path.is_file() else ""
            if sha256 != entry["sha256"]:
                raise InputError(f"{path}: not what its marker says; see `impure-data verify {shard.root}`")
            yield f"{shard.shard_id}{path.suffix}", sha256
            progress(1)
        yield f"{shard.shard_id}.done.json", sha256_file(shard.stem.with_suffix(".done.json"))
