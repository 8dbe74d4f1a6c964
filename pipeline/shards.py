"""Write shards: deterministic WebDataset tars, read back before they count, committed marker last."""

import fcntl
import io
import os
import shutil
import tarfile
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from impure.manifests.collection import Collection, Committed, Unit
from impure.manifests.config import canonical_json, differing_fields, digest
from impure.manifests.errors import InputError
from impure.manifests.pixels import encode_png, px_sha256
from impure.manifests.samples import Sample, read_shard
from impure.manifests.schema import MANIFEST, SCHEMA_VERSION, STATUS_OK, UNREADABLE
from impure.manifests.store import sha256_file, sync, write_json, write_table
from impure.pipeline.plans import sample_stem


class ReadBackError(RuntimeError):
    """What was read back from a fresh shard is not what was written: the disk or the memory is at fault."""


def sample_key(target: str, attack: str, source_id: str) -> str:
    """Name a sample: ASCII, no dots, at most 90 bytes, unique in a collection (see `sample_stem`)."""
    return f"{target}__{attack}__{sample_stem(source_id)}"


def write_tar(path: Path, samples: Sequence[Sample]) -> None:
    """Write samples as a WebDataset shard, byte-identical when written twice."""
    with ThreadPoolExecutor() as pool, tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        members = pool.map(_members, samples)  # PNG encoding lets go of the interpreter
        for name, data in chain.from_iterable(members):
            member = tarfile.TarInfo(name)  # owner 0, mtime 0, mode 644
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    sync(path)


def _members(sample: Sample) -> list[tuple[str, bytes]]:
    """A sample's members in the order in which they are stored."""
    members = {
        "clean.png": encode_png(sample.clean),
        "adv.png": encode_png(sample.adversarial),
        "cls": str(sample.label).encode(),
        "json": canonical_json(sample.meta).encode(),
    }
    return [(f"{sample.key}.{extension}", data) for extension, data in members.items()]


def commit(
    collection: Collection,
    unit: Unit,
    samples: Sequence[Sample],
    rows: Sequence[Mapping[str, Any]],
    config: Mapping[str, Any],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Build a unit aside, read it back, then move it into place: tar, manifest, marker.

    A kill at any instant leaves at most files that no reader looks at. Of two processes that build the same
    unit the first to commit wins.

    Args:
        collection: Where to.
        unit: Which.
        samples: What to store, in order.
        rows: The manifest's rows, those without a stored sample too.
        config: What decided the result; goes, with its digest, into manifest and marker.
        facts: What else the marker should record (software, threads, run).

    Returns:
        The marker's content.

    Raises:
        ReadBackError: What is on the disk is not what was written.
    """
    with _aside(collection, unit) as folder:
        tar, manifest = folder / "shard.tar", folder / "manifest.parquet"
        write_tar(tar, samples)
        write_table(manifest, pa.Table.from_pylist(list(rows), schema=MANIFEST), config, facts)
        sync(manifest)
        _read_back(tar, samples)
        marker = {
            "schema_version": SCHEMA_VERSION,
            "unit": str(unit),
            "config": dict(config),
            "config_digest": digest(dict(config)),
            "tar": {"sha256": sha256_file(tar), "bytes": tar.stat().st_size},
            "manifest": {"sha256": sha256_file(manifest), "bytes": manifest.stat().st_size},
            "counts": count(rows),
            **facts,
        }
        return _move_in(collection, unit, tar, manifest, marker)


def count(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Images planned, stored, skipped when the plan was drawn, failed since, and attacks that succeeded."""
    status = Counter(row["status"] for row in rows)
    planned = len(rows) - status[UNREADABLE]
    return {
        "planned": planned,
        "stored": status[STATUS_OK],
        "unreadable": status[UNREADABLE],
        "failed": planned - status[STATUS_OK],
        "succeeded": sum(bool(row["success"]) for row in rows if row["status"] == STATUS_OK),
    }


def _read_back(tar: Path, samples: Sequence[Sample]) -> None:
    """Decode a fresh shard and compare it with what it should hold."""

    def hashes(each: Sample) -> tuple[str, int, str, str]:
        return each.key, each.label, px_sha256(each.clean), px_sha256(each.adversarial)

    if [hashes(each) for each in read_shard(tar)] != [hashes(each) for each in samples]:
        raise ReadBackError(f"{tar}: read back other pixels than were written; check the disk and the memory")


def _move_in(
    collection: Collection, unit: Unit, tar: Path, manifest: Path, marker: dict[str, Any]
) -> dict[str, Any]:
    """Rename tar, then manifest, then write the marker; unless another process did meanwhile.

    Raises:
        InputError: The other process made the unit with another config.
    """
    stem, marker_path = collection.stem(unit), collection.marker_path(unit)
    stem.parent.mkdir(parents=True, exist_ok=True)
    with _alone(collection):
        if there := find_committed(collection, unit, marker["config"]):
            return there.marker
        marker_path.unlink(missing_ok=True)  # of a damaged unit: no reader may see old marker and new files
        os.replace(tar, stem.with_suffix(".tar"))
        os.replace(manifest, stem.with_suffix(".parquet"))
        sync(stem.parent)
        write_json(marker_path, marker)
    return marker


def find_committed(collection: Collection, unit: Unit, config: Mapping[str, Any]) -> Committed | None:
    """The unit if it is committed and whole; None if it has to be made, or made again.

    Raises:
        InputError: It was made with another config; the message names the fields.
    """
    if not collection.marker_path(unit).exists():
        return None
    try:
        there = collection.read(unit)
    except InputError:
        return None  # a marker that cannot be read vouches for nothing
    if there.marker["config_digest"] != digest(dict(config)):
        fields = "; ".join(differing_fields(config, there.marker["config"]))
        raise InputError(f"{there.tar}: made with another config: {fields}; choose another --out")
    return there if there.whole else None


@contextmanager
def _aside(collection: Collection, unit: Unit) -> Iterator[Path]:
    """A folder of one's own below `_tmp`, gone afterwards; a lock tells the living from the killed."""
    folder = collection.root / "_tmp" / f"{str(unit).replace('/', '.')}.{uuid.uuid4().hex}"
    with _alone(collection):  # no sweep may see the folder before its lock is held
        folder.mkdir()
        lock = (folder / "alive.lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        with lock:
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(collection: Collection) -> None:
    """Remove what killed processes left below `_tmp`; folders of living ones stay."""
    with _alone(collection):
        for lock_path in (collection.root / "_tmp").glob("*/alive.lock"):
            try:
                with lock_path.open("r") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(lock_path.parent, ignore_errors=True)
            except OSError:  # held by a living process, or just removed by it
                continue


@contextmanager
def _alone(collection: Collection) -> Iterator[None]:
    """Hold the collection's lock: one process at a time; a killed one lets go of it."""
    folder = collection.root / "_tmp"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "commit.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
