"""Files appear whole or not at all."""

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from impure.manifests.config import canonical_json, digest
from impure.manifests.errors import InputError, first_line

CONFIG_KEY = b"impure.config"
DIGEST_KEY = b"impure.digest"
FACTS_KEY = b"impure.facts"  # software, threads, run: recorded, but not part of the config


@contextlib.contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Hand out a temporary path beside `final`; fsync and rename it there when the block succeeds.

    The temporary name ends in `.tmp`, which no reader takes for data. A failed block leaves nothing.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, final)
        sync(final.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Push a file's (or a folder's) content from the page cache to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON object.

    Raises:
        InputError: The file cannot be read, is no JSON, or holds something else than an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a readable JSON file ({error})") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def _refuse(name: str) -> None:
    """JSON knows no NaN and no infinity, though Python's reader would take them."""
    raise ValueError(f"{name} is no JSON")


def write_table(
    path: Path, table: pa.Table, config: Mapping[str, Any], facts: Mapping[str, Any] | None = None
) -> None:
    """Write a Parquet file whose metadata carries the config as canonical JSON, its digest, and facts."""
    metadata = {
        CONFIG_KEY: canonical_json(dict(config)).encode(),
        DIGEST_KEY: digest(dict(config)).encode(),
        FACTS_KEY: canonical_json(dict(facts or {})).encode(),
    }
    pq.write_table(table.replace_schema_metadata(metadata), path, compression="zstd")


def read_table(path: Path, schema: pa.Schema) -> tuple[pa.Table, dict[str, Any]]:
    """Read a Parquet file written by `write_table`: the table, and the config from its metadata.

    Raises:
        InputError: The file cannot be read, has other columns, or carries no config.
    """
    try:
        table = pq.read_table(path, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a readable Parquet file ({first_line(error)})") from error
    if table.schema.names != schema.names or table.schema.types != schema.types:
        raise InputError(f"{path}: its columns are not those of this version of impure")
    try:
        config = json.loads((table.schema.metadata or {})[CONFIG_KEY])
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: its metadata carries no impure config") from error
    return table, config


def sha256_file(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
