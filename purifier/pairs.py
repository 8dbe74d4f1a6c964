"""The pairs that units hold: columns of a hundred-odd bytes a pair, which look like a sequence of `Pair`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from impure.manifests.collection import Committed, Unit

SHA256 = pa.binary(32)
SCHEMA = pa.schema(
    [
        ("unit", pa.int32()),  # a number
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One stored sample as its manifest describes it; nothing is decoded."""

    unit: Committed
    row: int  # among the stored samples of the unit's manifest
    key: str
    label: int
    width: int
    height: int
    clean_sha256: str
    adversarial_sha256: str


class Pairs(Sequence[Pair]):
    """Pairs as Arrow columns; a `Pair` is made when one is asked for."""

    def __init__(self, units: Sequence[Committed], table: pa.Table) -> None:
        """Hold pairs whose column `unit` counts through `units` (see `listing.list_pairs` and `of`)."""
        self._units = tuple(units)
        self._table = table.combine_chunks()

    @classmethod
    def of(cls, pairs: Sequence[Pair]) -> "Pairs":
        """Any sequence of pairs as columns."""
        if isinstance(pairs, Pairs):
            return pairs
        units = {pair.unit.stem: pair.unit for pair in pairs}
        number = {stem: at for at, stem in enumerate(units)}
        columns = [
            [number[pair.unit.stem] for pair in pairs],
            *([getattr(pair, name) for pair in pairs] for name in SCHEMA.names[1:6]),
            [bytes.fromhex(pair.clean_sha256) for pair in pairs],
            [bytes.fromhex(pair.adversarial_sha256) for pair in pairs],
        ]
        arrays = [pa.array(column, kind) for column, kind in zip(columns, SCHEMA.types, strict=True)]
        return cls(list(units.values()), pa.table(arrays, schema=SCHEMA))

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
            for unit, row, key, label, width, height, clean, adversarial in zip(
                *chunk.to_pydict().values(), strict=True
            ):
                yield Pair(
                    unit=self._units[unit],
                    row=row,
                    key=key,
                    label=label,
                    width=width,
                    height=height,
                    clean_sha256=clean.hex(),
                    adversarial_sha256=adversarial.hex(),
                )

    def __add__(self, other: "Pairs") -> "Pairs":
        moved = pa.array(other._column("unit") + np.int32(len(self._units)))
        theirs = other._table.set_column(0, SCHEMA.field("unit"), moved)
        return Pairs((*self._units, *other._units), pa.concat_tables([self._table, theirs]))

    @property
    def nbytes(self) -> int:
        """Memory that the columns take, bytes."""
        return int(self._table.nbytes)

    @property
    def units(self) -> list[Committed]:
        """The units that the pairs lie in, each once."""
        used = (self._units[number] for number in np.unique(self._column("unit")))
        return list({unit.stem: unit for unit in used}.values())

    @property
    def sizes(self) -> NDArray[np.int32]:
        """Height and width of every pair's images, pixels (N, 2)."""
        return np.stack([self._column("height"), self._column("width")], axis=1)

    @property
    def images(self) -> NDArray[np.int64]:
        """Number of every pair's clean image (N,): equal where pixels and size are."""
        hashes = self._table["clean"].combine_chunks().dictionary_encode().indices
        size = self.sizes.astype(np.int64) @ (1 << 16, 1)
        return numbered(np.asarray(hashes, np.int64), size)

    @property
    def targets(self) -> NDArray[np.int64]:
        """Number of every pair's target (N,): equal where the target is."""
        names = np.unique([unit.unit.target for unit in self._units], return_inverse=True)[1]
        return np.asarray(names, np.int64)[self._column("unit")]

    def take(self, indices: NDArray[np.int64]) -> "Pairs":
        """The pairs at some places, in that order."""
        return Pairs(self._units, self._table.take(pa.array(indices)))

    def where(self, holds: Callable[[Unit], bool]) -> "Pairs":
        """The pairs of those units for which something holds."""
        chosen = np.array([holds(unit.unit) for unit in self._units], bool)
        return self.take(np.flatnonzero(chosen[self._column("unit")]))

    def _column(self, name: str) -> NDArray[np.int32]:
        """A column of integers."""
        column: NDArray[np.int32] = self._table[name].to_numpy()
        return column


def numbered(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers from 0 that are equal where both columns are."""
    inner = np.unique(second, return_inverse=True)[1]
    return np.unique(first * (inner.max(initial=0) + 1) + inner, return_inverse=True)[1].astype(np.int64)
