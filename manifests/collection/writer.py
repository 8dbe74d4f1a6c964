"""Write a shard: a deterministic WebDataset tar and its manifest, read back, then committed.

Images are decoded again where they are encoded (`Storage.encode`); from there on bytes are followed by their
SHA-256: from the encoded sample to the file as it is read back, from the disk where the system allows.
"""

import hashlib
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from impure.manifests.base.canonical_json import digest
from impure.manifests.base.errors import ImpureError, ReadBackError
from impure.manifests.base.files import forget, sha256_file, sync
from impure.manifests.base.parquet import write_table
from impure.manifests.base.tar import BLOCK
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.commit import move_in
from impure.manifests.collection.marker import Marker, check_marker, count_rows
from impure.manifests.collection.samples import Sample
from impure.manifests.collection.schema import MANIFEST, SCHEMA_VERSION, Row
from impure.manifests.collection.shard_id import ShardId
from impure.manifests.collection.storage import Storage
from impure.manifests.collection.temp_dirs import temp_dir

#: What a marker records beside the config; see `AttackJob.facts`.
RECORDED = ("run_id", "attacked_together", "threads", "device", "software", "seconds")

_HEADER = tarfile.TarInfo().tobuf(tarfile.USTAR_FORMAT)


class EmptyShardError(ImpureError):
    """A shard has no sample."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A sample as it is stored.

    Attributes:
        data: Its part of the tar: headers and contents of its members.
        sha256: Of these bytes.
        row: Of the manifest, but for its place in the shard.
    """

    data: bytes
    sha256: bytes
    row: Row


def encode(sample: Sample, row: Row, storage: Storage, attack: str, clean: bytes | None = None) -> Encoded:
    """Encode a sample for a shard of an attack; see `Storage.members` for `clean`, and for what it raises."""
    data = b"".join(map(_in_tar, *zip(*storage.members(sample, attack, clean), strict=True)))
    return Encoded(data, hashlib.sha256(data).digest(), row)


def _end_of_tar(size: int) -> bytes:
    """What ends a tar of so many bytes: two empty blocks, and more up to a whole record."""
    return bytes(2 * BLOCK + -(size + 2 * BLOCK) % tarfile.RECORDSIZE)


def _in_tar(name: str, content: bytes) -> bytes:
    """A member as it stands in a tar: owner 0, mtime 0, mode 644.

    `TarInfo.tobuf` gives the same header, but holds the interpreter, which the attack needs, longer.
    """
    header = bytearray(_HEADER)
    header[: len(name)] = name.encode("ascii")
    header[124:135] = b"%011o" % len(content)
    header[148:154] = b"%06o" % (sum(header) - sum(header[148:156]) + 8 * ord(" "))
    return bytes(header) + content + bytes(-len(content) % BLOCK)


class ShardWriter:
    """A shard in the making: its tar grows in a temporary folder until `commit` moves it into place."""

    def __init__(self, collection: Collection, shard_id: ShardId, folder: Path) -> None:
        self._collection = collection
        self._shard_id = shard_id
        self._path = folder / "shard.tar"
        self._manifest = folder / "manifest.parquet"
        self._file = self._path.open("wb")
        self._written: list[tuple[int, bytes]] = []  # size and SHA-256 of each sample
        self._rows: list[Row] = []

    def add(self, encoded: Encoded) -> None:
        """Append a sample and its row; the same samples give the same bytes."""
        self._rows.append({**encoded.row, "index_in_shard": len(self._written)})
        self._append(encoded.data, encoded.sha256)

    def _append(self, data: bytes, sha256: bytes) -> None:
        """Write a part of the tar, and note what has to be read back."""
        self._file.write(data)
        self._written.append((len(data), sha256))

    @property
    def bytes(self) -> int:
        """Size of the tar so far."""
        return sum(size for size, _ in self._written)

    def add_rows(self, rows: Sequence[Row]) -> None:
        """Add the rows of images that have no sample."""
        self._rows += [{**row, "index_in_shard": None} for row in rows]

    def commit(self, config: Mapping[str, Any], facts: Mapping[str, Any]) -> Marker:
        """Read the shard back, then move it into place: tar, manifest, marker.

        A kill at any instant leaves at most files that no reader looks at. Of two processes that build the
        same shard the first to commit wins.

        Args:
            config: What decided the result; goes, with its digest, into manifest and marker.
            facts: What else the marker should record (software, threads, run).

        Returns:
            The marker's content.

        Raises:
            EmptyShardError: Not one image could be stored: stock readers break on a tar without samples.
            ReadBackError: What is on the disk is not what was written.
        """
        if not self._written:
            why = next((row["error"] for row in self._rows if row["error"]), "no reason is known")
            raise EmptyShardError(f"none of its {len(self._rows)} images could be stored ({why})")
        end = _end_of_tar(self.bytes)
        self._append(end, hashlib.sha256(end).digest())
        self.close()
        sync(self._path)
        write_table(self._manifest, pa.Table.from_pylist(self._rows, schema=MANIFEST), config, facts)
        sync(self._manifest)
        marker = {
            **facts,
            "schema_version": SCHEMA_VERSION,
            "shard_id": str(self._shard_id),
            "config": dict(config),
            "config_digest": digest(dict(config)),
            "tar": {"sha256": self._read_back(), "bytes": self._path.stat().st_size},
            "manifest": {"sha256": sha256_file(self._manifest), "bytes": self._manifest.stat().st_size},
            "counts": count_rows(self._rows),
        }
        final = self._collection.marker_path(self._shard_id)
        checked = check_marker(marker, str(final))
        return move_in(self._collection, self._shard_id, self._path, self._manifest, checked)

    def _read_back(self) -> str:
        """SHA-256 (hex) of the tar as it is read from the disk, sample by sample what was encoded."""
        whole = hashlib.sha256()
        with self._path.open("rb") as file:
            forget(file)
            for size, sha256 in self._written:
                data = file.read(size)
                if hashlib.sha256(data).digest() != sha256:
                    raise ReadBackError(f"{self._path}: not what was written; check the disk and the memory")
                whole.update(data)
            if file.read(1):
                raise ReadBackError(f"{self._path}: longer than what was written; check the disk")
        return whole.hexdigest()

    def close(self) -> None:
        """Close the tar's file."""
        self._file.close()


@contextmanager
def open_shard(collection: Collection, shard_id: ShardId) -> Iterator[ShardWriter]:
    """A writer in a folder of its own, which is gone afterwards."""
    with temp_dir(collection, str(shard_id)) as folder:
        shard = ShardWriter(collection, shard_id, folder)
        try:
            yield shard
        finally:
            shard.close()


def rewriting(
    old: Collection, new: Collection, storage: Storage
) -> Callable[[ShardId, Iterator[tuple[Sample | None, Row]], dict[str, Any]], None]:
    """A function that writes shards of another collection anew, with what their old markers record."""

    def write(shard_id: ShardId, made: Iterator[tuple[Sample | None, Row]], config: dict[str, Any]) -> None:
        marker = dict(old.read(shard_id).marker)
        with open_shard(new, shard_id) as shard:
            for sample, row in made:
                if sample is None:
                    shard.add_rows([row])
                else:
                    shard.add(encode(sample, row, storage, shard_id.attack))
            shard.commit(config, {name: marker[name] for name in RECORDED if name in marker})

    return write
