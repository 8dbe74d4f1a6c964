"""The pairs that shards hold: columns of a hundred-odd bytes a pair, which look like a sequence of `Pair`."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from impure.manifests.base.canonical_json import canonical_json
from impure.manifests.base.errors import InputError
from impure.manifests.collection.collection import CommittedShard
from impure.manifests.collection.shard_id import CLEAN
from impure.purifier.data.shard_index import ShardIndices, stored_rows

SHA256 = pa.binary(32)
SCHEMA = pa.schema(
    [
        ("shard_id", pa.int32()),  # place in the list of shards
        ("row", pa.int32()),
        ("key", pa.string()),
        ("label", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("clean", SHA256),
        ("adversarial", SHA256),
    ]
)
_CHUNK = 1 << 14  # pairs that become Python objects at a time

_HEX = np.full(256, 255, np.uint8)  # value of each lower-case hexadecimal digit
_HEX[list(b"0123456789abcdef")] = range(16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One stored sample as its manifest describes it; nothing is decoded."""

    shard: CommittedShard
    row: int  # among the stored samples of the shard's manifest
    key: str
    label: int
    width: int
    height: int
    clean_sha256: str
    adversarial_sha256: str


class Pairs(Sequence[Pair]):
    """Pairs as Arrow columns; a `Pair` is made when one is asked for."""

    def __init__(self, shards: Sequence[CommittedShard], table: pa.Table) -> None:
        """Hold pairs whose column `shard_id` holds places in `shards` (see `list_pairs`)."""
        self._shards = tuple(shards)
        self._table = table.combine_chunks()

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> "Pairs": ...
    def __getitem__(self, index: int | slice) -> "Pair | Pairs":
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        at = range(len(self))[index]  # minds negative indices and the end
        return next(self._made(self._table.slice(at, 1)))

    def __iter__(self) -> Iterator[Pair]:
        return self._made(self._table)

    def _made(self, table: pa.Table) -> Iterator[Pair]:
        """Rows as pairs, a chunk at a time."""
        for chunk in table.to_batches(max_chunksize=_CHUNK):
            for shard, row, key, label, width, height, clean, adversarial in zip(
                *chunk.to_pydict().values(), strict=True
            ):
                yield Pair(
                    shard=self._shards[shard],
                    row=row,
                    key=key,
                    label=label,
                    width=width,
                    height=height,
                    clean_sha256=clean.hex(),
                    adversarial_sha256=adversarial.hex(),
                )

    def __add__(self, other: "Pairs") -> "Pairs":
        moved = pa.array(other._column("shard_id") + np.int32(len(self._shards)))
        theirs = other._table.set_column(0, SCHEMA.field("shard_id"), moved)
        return Pairs((*self._shards, *other._shards), pa.concat_tables([self._table, theirs]))

    @property
    def shards(self) -> list[CommittedShard]:
        """The shards that the pairs lie in, each once."""
        used = (self._shards[number] for number in np.unique(self._column("shard_id")))
        return list({shard.stem: shard for shard in used}.values())

    def count_by_shard(self) -> list[tuple[CommittedShard, int]]:
        """The shards that the pairs lie in, each with their number."""
        numbers, counts = np.unique(self._column("shard_id"), return_counts=True)
        return [(self._shards[number], count) for number, count in zip(numbers, counts.tolist(), strict=True)]

    @property
    def sizes(self) -> NDArray[np.int32]:
        """Height and width of every pair's images, pixels (N, 2)."""
        return np.stack([self._column("height"), self._column("width")], axis=1)

    @property
    def labels(self) -> NDArray[np.int64]:
        """True class of every pair (N,)."""
        return self._column("label").astype(np.int64)

    @property
    def clean_ids(self) -> NDArray[np.int64]:
        """Number of every pair's clean image (N,): equal where pixels and size are."""
        hashes = self._table["clean"].combine_chunks().dictionary_encode().indices
        size = self.sizes.astype(np.int64) @ (1 << 16, 1)
        return _numbered(np.asarray(hashes, np.int64), size)

    @property
    def targets(self) -> NDArray[np.int64]:
        """Number of every pair's target (N,): equal where the target is."""
        names = np.unique([shard.shard_id.target for shard in self._shards], return_inverse=True)[1]
        return np.asarray(names, np.int64)[self._column("shard_id")]

    def take(self, indices: NDArray[np.int64]) -> "Pairs":
        """The pairs at some places, in that order."""
        return Pairs(self._shards, self._table.take(pa.array(indices)))

    def attacked(self) -> "Pairs":
        """The pairs that an attack made."""
        chosen = np.array([shard.shard_id.attack != CLEAN for shard in self._shards], bool)
        return self.take(np.flatnonzero(chosen[self._column("shard_id")]))

    def distinct_clean(self) -> "Pairs":
        """One pair for each distinct clean image of each target, in the order of first appearance."""
        first = np.unique(_numbered(self.targets, self.clean_ids), return_index=True)[1]
        return self.take(np.sort(first))

    def _column(self, name: str) -> NDArray[np.int32]:
        """A column of integers."""
        column: NDArray[np.int32] = self._table[name].to_numpy()
        return column


def list_pairs(shards: Sequence[CommittedShard], indices: ShardIndices | None = None) -> Pairs:
    """List every stored sample of some shards: the manifest rows with status ok.

    Shards that are still far away (see `sharing.cache`) are listed from their manifests alone.

    Args:
        shards: The shards.
        indices: Keeps the indices that are made on the way.

    Raises:
        InputError: A shard's tar and manifest do not hold the same keys, or its images are missing.
    """
    indices = ShardIndices() if indices is None else indices
    tables = [_shard_pairs(number, shard, indices) for number, shard in enumerate(shards)]
    return Pairs(shards, pa.concat_tables([SCHEMA.empty_table(), *tables]))


def pairs_digest(pairs: Sequence[Pair]) -> str:
    """SHA-256 (hex) of what the pairs hold: shards, keys, labels and pixels, as canonical JSON."""
    sha256 = hashlib.sha256(b"[")
    for number, pair in enumerate(pairs):
        row = [str(pair.shard.shard_id), pair.key, pair.label, pair.clean_sha256, pair.adversarial_sha256]
        sha256.update(b"," * (number > 0) + canonical_json(row).encode())
    sha256.update(b"]")
    return sha256.hexdigest()


def _shard_pairs(number: int, shard: CommittedShard, indices: ShardIndices) -> pa.Table:
    """The samples of one shard, checked against the headers of its tar."""
    rows = stored_rows(shard)
    if shard.tar.is_file() or not shard.origin:  # what is far away is not here yet
        indices.index(shard, rows)
    columns = [
        np.full(len(rows), number, np.int32),
        np.arange(len(rows), dtype=np.int32),
        *(rows[name] for name in ("key", "label", "width", "height")),
        *(_hashes(shard, rows, name) for name in ("clean_px_sha256", "adv_px_sha256")),
    ]
    return pa.table(columns, schema=SCHEMA)


def _hashes(shard: CommittedShard, rows: pa.Table, name: str) -> pa.Array:
    """A column of hexadecimal SHA-256 as 32 bytes each."""
    texts = [text.encode() for text in rows[name].to_pylist()]
    digits = _HEX[np.frombuffer(b"".join(texts), np.uint8)]
    if any(len(text) != 64 for text in texts) or digits.max(initial=0) > 15:
        raise InputError(f"{shard.manifest}: {name} holds something that is no SHA-256; generate it again")
    return pa.FixedSizeBinaryArray.from_buffers(
        SHA256, len(texts), [None, pa.py_buffer((digits[::2] << 4 | digits[1::2]).tobytes())]
    )


def _numbered(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers from 0 that are equal where both columns are."""
    inner = np.unique(second, return_inverse=True)[1]
    return np.unique(first * (inner.max(initial=0) + 1) + inner, return_inverse=True)[1].astype(np.int64)
