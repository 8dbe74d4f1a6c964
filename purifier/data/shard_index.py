"""What the manifests say of stored samples, and where the samples lie: compact, for every worker holds it."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from impure.manifests.base.errors import InputError
from impure.manifests.base.tar import Member
from impure.manifests.collection.collection import CommittedShard
from impure.manifests.collection.samples import EXTENSIONS, SampleIndex
from impure.manifests.collection.schema import STATUS_OK
from impure.manifests.collection.stored_pairs import index_pairs

COLUMNS = ("key", "label", "width", "height", "clean_px_sha256", "adv_px_sha256")

_ENDINGS = tuple(EXTENSIONS)
_PLACE = np.dtype([("offset", np.int64), ("size", np.int32), ("ending", np.uint8)])  # packed: 13 bytes


def stored_rows(shard: CommittedShard) -> pa.Table:
    """The manifest's rows of stored samples, in order: `COLUMNS`, as Arrow columns.

    Raises:
        InputError: The manifest cannot be read, or one of them is null somewhere.
    """
    table = shard.rows()[0]
    rows = table.filter(pc.equal(table["status"], STATUS_OK)).select(COLUMNS)
    if lacking := [name for name in COLUMNS if rows[name].null_count]:
        raise InputError(f"{shard.manifest}: {lacking[0]} is null where a sample is stored")
    return rows


class ShardIndex:
    """Where the members of a shard's samples lie: 13 bytes a member, in the order of the manifest."""

    def __init__(self, samples: Sequence[SampleIndex]) -> None:
        """Take over a whole shard's samples; they are stored alike (see `samples.index_shard`)."""
        first = samples[0].members if samples else {}
        self._tars = {part: member.path for part, member in first.items()}
        self._places = np.array(
            [[_place(sample.members[part]) for part in self._tars] for sample in samples], _PLACE
        )

    def sample(self, row: int, key: str, images: Collection[str]) -> SampleIndex:
        """Where one sample lies.

        Args:
            row: Of the sample among the stored ones of the manifest.
            key: Of the sample.
            images: Which of `clean` and `adv` are wanted; `clean` stands in for an `adv` that is not stored.
        """
        wanted = {image if image in self._tars else "clean" for image in images} | {"cls", "json"}
        members = {}
        for (part, tar), place in zip(self._tars.items(), self._places[row].tolist(), strict=True):
            if part in wanted:
                offset, size, ending = place
                members[part] = Member(tar, f"{key}.{_ENDINGS[ending]}", offset, size, True)
        return SampleIndex(key, members)


def _place(member: Member) -> tuple[int, int, int]:
    """A member as `_PLACE` holds it."""
    return member.offset, member.size, _ENDINGS.index(member.name.partition(".")[2])


class ShardIndices:
    """The indices of shards, each made once, when it is first asked for.

    What is indexed before DataLoader workers are forked is shared with them.
    """

    def __init__(self) -> None:
        self._indices: dict[Path, ShardIndex] = {}

    def index(self, shard: CommittedShard, rows: pa.Table | None = None) -> ShardIndex:
        """A shard's index, checked against its manifest; its shard is fetched if it is far away.

        Args:
            shard: The shard.
            rows: Its `stored_rows`, where they have been read already.

        Raises:
            InputError: Shard and manifest do not hold the same keys, or see `storage.index_pairs`.
        """
        if shard.stem not in self._indices:
            keys = (stored_rows(shard) if rows is None else rows)["key"].to_pylist()
            self._indices[shard.stem] = ShardIndex(_in_order(shard, keys))
        return self._indices[shard.stem]


def _in_order(committed: CommittedShard, keys: Sequence[str]) -> list[SampleIndex]:
    """A shard's samples in the order of its manifest's keys."""
    shard = {sample.key: sample for sample in index_pairs(committed)}
    if sorted(keys) != sorted(shard):
        odd = sorted(set(keys) ^ set(shard))
        example = f", for example {odd[0]!r}" if odd else ""
        raise InputError(
            f"{committed.tar}: holds {len(shard)} samples, its manifest {len(keys)}, and they differ"
            f"{example}; generate the shard again"
        )
    return [shard[key] for key in keys]
