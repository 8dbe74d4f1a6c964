"""Parquet files that carry a config, read with limits."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from impure.manifests.base.canonical_json import canonical_json, digest, parse_object
from impure.manifests.base.errors import InputError, first_line

CONFIG_KEY = b"impure.config"
DIGEST_KEY = b"impure.digest"
FACTS_KEY = b"impure.facts"  # software, threads, run: recorded, but not part of the config

MAX_ROWS = 1 << 23
MAX_TABLE = 1 << 32  # bytes, uncompressed


def write_table(
    path: Path, table: pa.Table, config: Mapping[str, Any], facts: Mapping[str, Any] | None = None
) -> None:
    """Write a Parquet file whose metadata carries the config as canonical JSON, its digest, and facts."""
    metadata = {
        CONFIG_KEY: canonical_json(dict(config)).encode(),
        DIGEST_KEY: digest(dict(config)).encode(),
        FACTS_KEY: canonical_json(dict(facts or {})).encode(),
    }
    with parquet_file(path, "w") as file:
        pq.write_table(table.replace_schema_metadata(metadata), file, compression="zstd")


def parquet_file(path: Path, mode: str = "r") -> pa.OSFile:
    """Open a file for Arrow, which would take a path for text in UTF-8.

    Raises:
        OSError: It cannot be opened.
    """
    return pa.OSFile(os.fsencode(path), mode)


def read_table(path: Path, schema: pa.Schema) -> tuple[pa.Table, dict[str, Any]]:
    """Read a Parquet file written by `write_table`: the table, and the config from its metadata.

    Raises:
        InputError: The file cannot be read, is too large, has other columns, or carries no config.
    """
    try:
        with parquet_file(path) as data, pq.ParquetFile(data) as file:
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
