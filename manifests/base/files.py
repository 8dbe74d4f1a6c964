"""Files appear whole or not at all."""

import contextlib
import errno
import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from impure.manifests.base.canonical_json import canonical_json, digest, parse_object
from impure.manifests.base.errors import InputError, first_line

CONFIG_KEY = b"impure.config"
DIGEST_KEY = b"impure.digest"
FACTS_KEY = b"impure.facts"  # software, threads, run: recorded, but not part of the config

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO)  # what disks are to blame for

# What a stranger's file may ask for; a plan of all of ImageNet is a fifth of it.
MAX_JSON = 1 << 24  # bytes
MAX_ROWS = 1 << 23
MAX_TABLE = 1 << 32  # bytes, uncompressed


@contextlib.contextmanager
def blaming(path: Path) -> Iterator[None]:
    """Name a path where the operating system says without a file name that a disk is full, or broken.

    Raises:
        OSError: As raised in the block, with a file name.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno not in _DISK:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


@contextlib.contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Hand out a temporary path beside `final`; fsync and rename it there when the block succeeds.

    The temporary name ends in `.tmp`, which no reader takes for data. A failed block leaves nothing.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex}.tmp")
    try:
        with blaming(final):
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
        InputError: The file cannot be read, is larger than `MAX_JSON`, or see `parse_object`.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_JSON + 1)
    except OSError as error:
        raise InputError(f"{path}: not a readable JSON file ({error})") from error
    if len(text) > MAX_JSON:
        raise InputError(f"{path}: refused, more than {MAX_JSON} bytes of JSON")
    return parse_object(text, str(path))


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
        InputError: The file cannot be read, is too large, has other columns, or carries no config.
    """
    try:
        with pq.ParquetFile(path) as file:
            _check_extent(path, file.metadata)
            if file.schema_arrow.names != schema.names or file.schema_arrow.types != schema.types:
                raise InputError(f"{path}: its columns are not those of this version of impure")
            table = file.read()
        table.validate(full=True)  # text that is no UTF-8 would only show when it is looked at
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a readable Parquet file ({first_line(error)})") from error
    config = (table.schema.metadata or {}).get(CONFIG_KEY)
    if config is None:
        raise InputError(f"{path}: its metadata carries no impure config")
    return table, parse_object(config, f"{path}: config in its metadata")


def _check_extent(path: Path, metadata: pq.FileMetaData) -> None:
    """Refuse a file that would fill the memory, before its columns are read."""
    size = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
    if metadata.num_rows > MAX_ROWS or size > MAX_TABLE:
        raise InputError(f"{path}: refused, {metadata.num_rows} rows of {size} bytes in all are too many")


def sha256_file(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
