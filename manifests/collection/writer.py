"""Write a shard: a deterministic WebDataset tar and its manifest, read back, then committed."""

import io
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from impure.manifests.base.canonical_json import digest
from impure.manifests.base.errors import ImpureError, InputError
from impure.manifests.base.files import sha256_file, sync
from impure.manifests.base.parquet import write_table
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.commit import move_in
from impure.manifests.collection.marker import Marker, check_marker, count_rows
from impure.manifests.collection.samples import Fingerprint, Sample, read_fingerprints
from impure.manifests.collection.schema import MANIFEST, SCHEMA_VERSION, Row
from impure.manifests.collection.shard_id import ShardId
from impure.manifests.collection.storage import Storage
from impure.manifests.collection.temp_dirs import temp_dir

#: What a marker records beside the config; see `AttackJob.facts`.
RECORDED = ("run_id", "attacked_together", "threads", "device", "software", "seconds")


class ReadBackError(ImpureError):
    """What was read back from a fresh shard is not what was written: the disk or the memory is at fault."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A sample as it is stored.

    Attributes:
        members: Names and contents, in order.
        fingerprint: What has to be read back.
        row: Of the manifest, but for its place in the shard.
    """

    members: list[tuple[str, bytes]]
    fingerprint: Fingerprint
    row: Row


def encode(sample: Sample, row: Row, storage: Storage, attack: str, clean: bytes | None = None) -> Encoded:
    """Encode a sample for a shard of an attack; see `Storage.members` for `clean`."""
    members = storage.members(sample, attack, clean)
    return Encoded(members, storage.fingerprint(sample, attack), row)


class ShardWriter:
    """A shard in the making: its tar grows in a temporary folder until `commit` moves it into place."""

    def __init__(self, collection: Collection, shard_id: ShardId, folder: Path) -> None:
        self._collection = collection
        self._shard_id = shard_id
        self._path = folder / "shard.tar"
        self._manifest = folder / "manifest.parquet"
        self._tar = tarfile.open(self._path, "w", format=tarfile.USTAR_FORMAT)
        self._written: list[Fingerprint] = []
        self._rows: list[Row] = []

    def add(self, encoded: Encoded) -> None:
        """Append a sample and its row; the same samples give the same bytes."""
        for name, data in encoded.members:
            member = tarfile.TarInfo(name)  # owner 0, mtime 0, mode 644
            member.size = len(data)
            self._tar.addfile(member, io.BytesIO(data))
        self._rows.append({**encoded.row, "index_in_shard": len(self._written)})
        self._written.append(encoded.fingerprint)

    @property
    def bytes(self) -> int:
        """Size of the tar so far."""
        return self._tar.offset

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
            ReadBackError: What is on the disk is not what was written.
        """
        self.close()
        sync(self._path)
        write_table(self._manifest, pa.Table.from_pylist(self._rows, schema=MANIFEST), config, facts)
        sync(self._manifest)
        if not self._is_as_written():
            raise ReadBackError(f"{self._path}: not what was written; check the disk and the memory")
        marker = {
            **facts,
            "schema_version": SCHEMA_VERSION,
            "shard_id": str(self._shard_id),
            "config": dict(config),
            "config_digest": digest(dict(config)),
            "tar": {"sha256": sha256_file(self._path), "bytes": self._path.stat().st_size},
            "manifest": {"sha256": sha256_file(self._manifest), "bytes": self._manifest.stat().st_size},
            "counts": count_rows(self._rows),
        }
        final = self._collection.marker_path(self._shard_id)
        checked = check_marker(marker, str(final))
        return move_in(self._collection, self._shard_id, self._path, self._manifest, checked)

    def _is_as_written(self) -> bool:
        """Whether the tar on the disk decodes to what was put into it."""
        try:
            return list(read_fingerprints(self._path)) == self._written
        except InputError:
            return False

    def close(self) -> None:
        """End the tar."""
        self._tar.close()


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
