"""List the pairs of units, and what can be asked of a list."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from impure.manifests.collection import CLEAN, Committed
from impure.manifests.config import canonical_json
from impure.manifests.errors import InputError
from impure.purifier.pairs import SCHEMA, SHA256, Pair, Pairs, numbered
from impure.purifier.shards import Shards, stored_rows

_HEX = np.full(256, 255, np.uint8)  # value of each lower-case hexadecimal digit
_HEX[list(b"0123456789abcdef")] = range(16)


def list_pairs(units: Sequence[Committed], shards: Shards | None = None) -> Pairs:
    """List every stored sample of some units: the manifest rows with status ok.

    Shards that are still far away (see `remote.open_shards`) are listed from their manifests alone.

    Args:
        units: The units.
        shards: Keeps the indices that are made on the way.

    Raises:
        InputError: A unit's shard and manifest do not hold the same keys, or its images are not there.
    """
    shards = Shards() if shards is None else shards
    tables = [_unit_pairs(number, unit, shards) for number, unit in enumerate(units)]
    return Pairs(units, pa.concat_tables([SCHEMA.empty_table(), *tables]))


def distinct_clean(pairs: Sequence[Pair]) -> Pairs:
    """One pair for each distinct clean image of each target, in the order of first appearance."""
    found = Pairs.of(pairs)
    first = np.unique(numbered(found.targets, found.images), return_index=True)[1]
    return found.take(np.sort(first))


def attacked(pairs: Sequence[Pair]) -> Pairs:
    """Those of the pairs that an attack made."""
    return Pairs.of(pairs).where(lambda unit: unit.attack != CLEAN)


def pairs_digest(pairs: Sequence[Pair]) -> str:
    """SHA-256 (hex) of what the pairs hold: units, keys, labels and pixels, as canonical JSON."""
    found = hashlib.sha256(b"[")
    for number, pair in enumerate(pairs):
        row = [str(pair.unit.unit), pair.key, pair.label, pair.clean_sha256, pair.adversarial_sha256]
        found.update(b"," * (number > 0) + canonical_json(row).encode())
    found.update(b"]")
    return found.hexdigest()


def _unit_pairs(number: int, unit: Committed, shards: Shards) -> pa.Table:
    """The samples of one unit, checked against its shard's headers."""
    rows = stored_rows(unit)
    if unit.tar.is_file():
        shards.index(unit, rows)
    columns = [
        np.full(len(rows), number, np.int32),
        np.arange(len(rows), dtype=np.int32),
        *(rows[name] for name in ("key", "label", "width", "height")),
        *(_hashes(unit, rows, name) for name in ("clean_px_sha256", "adv_px_sha256")),
    ]
    return pa.table(columns, schema=SCHEMA)


def _hashes(unit: Committed, rows: pa.Table, name: str) -> pa.Array:
    """A column of hexadecimal SHA-256 as 32 bytes each."""
    texts = [text.encode() for text in rows[name].to_pylist()]
    digits = _HEX[np.frombuffer(b"".join(texts), np.uint8)]
    if any(len(text) != 64 for text in texts) or digits.max(initial=0) > 15:
        raise InputError(f"{unit.manifest}: {name} holds something that is no SHA-256; generate it again")
    return pa.FixedSizeBinaryArray.from_buffers(
        SHA256, len(texts), [None, pa.py_buffer((digits[::2] << 4 | digits[1::2]).tobytes())]
    )
