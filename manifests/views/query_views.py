"""The views that SQL queries see: samples, plans and shards of a collection, as Arrow data.

The datasets read only those columns and files that a query needs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow.fs import LocalFileSystem

from impure.manifests.base.errors import InputError, first_line
from impure.manifests.collection.collection import Collection, CommittedShard
from impure.manifests.collection.schema import MANIFEST, PLAN

COUNTS = ("planned", "stored", "unreadable", "failed", "succeeded")

#: The view `shards`: a row for each marker. `attack` is as in `samples`, `variant` the folder, as pgd-e8.
SHARDS = pa.schema(
    [
        ("shard_id", pa.string()),
        ("target", pa.string()),
        ("attack", pa.string()),
        ("variant", pa.string()),
        ("split", pa.string()),
        ("shard", pa.int32()),
        *((name, pa.int64()) for name in COUNTS),
        ("tar_bytes", pa.int64()),
        ("manifest_bytes", pa.int64()),
        ("config_digest", pa.string()),
        ("run_id", pa.string()),
        ("device", pa.string()),
        ("threads", pa.int64()),
        ("seconds", pa.float64()),
    ]
)


def samples_view(collection: Collection) -> ds.Dataset:
    """The rows of all committed manifests, with the `shard_id` and the `variant` of their shard.

    Raises:
        InputError: A manifest is missing or damaged.
    """
    files = {}
    for shard in collection.committed:
        manifest = shard.manifest
        if not manifest.is_file() or manifest.stat().st_size != shard.marker["manifest"]["bytes"]:
            raise InputError(f"{manifest}: missing or damaged; see impure-data verify")
        files[manifest] = {"shard_id": str(shard.shard_id), "variant": shard.shard_id.attack}
    return _dataset(files, MANIFEST, ("shard_id", "variant"))


def plans_view(collection: Collection) -> ds.Dataset:
    """The rows of all frozen plans.

    Raises:
        InputError: A plan cannot be read.
    """
    return _dataset({path: {} for path in collection.plan_paths()}, PLAN)


def shards_view(collection: Collection) -> pa.Table:
    """One row for each marker; null where it does not say.

    Raises:
        InputError: A marker holds a value of the wrong kind.
    """
    rows = [_shard_row(shard) for shard in collection.committed]
    try:
        return pa.Table.from_pylist(rows, schema=SHARDS)
    except (pa.ArrowException, OverflowError, TypeError) as error:
        raise InputError(
            f"{collection.root}: a marker holds a value of the wrong kind ({first_line(error)})"
        ) from error


def _shard_row(shard: CommittedShard) -> dict[str, object]:
    """A row of `shards`; what else a marker holds is left out by the schema."""
    shard_id, marker = shard.shard_id, shard.marker
    attack = marker["config"].get("attack")
    return {
        **{name: marker.get(name) for name in SHARDS.names},
        **{name: marker["counts"].get(name) for name in COUNTS},
        "shard_id": str(shard_id),
        "target": shard_id.target,
        "attack": attack.get("name") if isinstance(attack, dict) else None,
        "variant": shard_id.attack,
        "split": shard_id.split,
        "shard": shard_id.number,
        "tar_bytes": marker["tar"]["bytes"],
        "manifest_bytes": marker["manifest"]["bytes"],
    }


def _dataset(
    files: Mapping[Path, Mapping[str, str]], schema: pa.Schema, extra_columns: Sequence[str] = ()
) -> ds.Dataset:
    """Parquet files of one schema as a dataset.

    Args:
        files: Each with the values of the extra columns, which are the same in all of its rows.
        schema: Of the files.
        extra_columns: Names of further columns of text. A query for one value of them opens no other file.

    Raises:
        InputError: A file cannot be read or has other columns.
    """
    parquet = ds.ParquetFileFormat()
    disk = LocalFileSystem()
    fragments = []
    for path, constants in files.items():
        _check_columns(path, schema)
        expression = ds.scalar(True)
        for name, value in constants.items():
            expression &= ds.field(name) == value
        fragments.append(parquet.make_fragment(str(path), disk, partition_expression=expression))
    columns = pa.schema([*schema, *(pa.field(name, pa.string()) for name in extra_columns)])
    return ds.FileSystemDataset(fragments, columns, parquet, disk)


def _check_columns(path: Path, schema: pa.Schema) -> None:
    """A dataset would fill columns that a file lacks with nulls and say nothing."""
    try:
        columns = pq.read_schema(str(path))
    except UnicodeEncodeError as error:
        raise InputError(f"{path}: queries need a path in UTF-8; rename the folder") from error
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a readable Parquet file ({first_line(error)})") from error
    if columns.names != schema.names or columns.types != schema.types:
        raise InputError(f"{path}: its columns are not those of this version of impure")
