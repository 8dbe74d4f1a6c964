"""Ask a collection in SQL: DuckDB over the manifests of all committed shards.

Collection and SQL may be a stranger's, so DuckDB is handed Arrow datasets and is itself kept from files,
extensions and the network. The datasets read only those columns and files that a query needs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow.fs import LocalFileSystem

from impure.manifests.base.errors import InputError, first_line
from impure.manifests.collection.collection import Collection, CommittedShard
from impure.manifests.collection.schema import MANIFEST, PLAN

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

COUNTS = ("planned", "stored", "unreadable", "failed", "succeeded")

#: The view `units`: a row for each marker. `attack` is as in `samples`, `variant` the folder, such as pgd-e8.
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

#: Question -> SQL, for help texts.
EXAMPLES = {
    "how often each attack fools the target, in %": (
        "SELECT target, variant, round(100 * avg(success::int), 1) AS fooled "
        "FROM samples WHERE status = 'ok' GROUP BY ALL ORDER BY ALL"
    ),
    "the ten smallest perturbations that fool": (
        "SELECT key, l2, linf_255 FROM samples WHERE success AND attack <> 'clean' ORDER BY l2 LIMIT 10"
    ),
    "images that withstood all attacks": (
        "SELECT target, source_id, count(*) AS attacks FROM samples WHERE attack <> 'clean' "
        "GROUP BY ALL HAVING bool_and(status = 'ok' AND NOT success) ORDER BY ALL"
    ),
}

_CONFINED: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "python_enable_replacements": False,  # no looking at the Python variables of its caller
    "temp_directory": "",
    "lock_configuration": True,
}


def query(collection: Collection, sql: str) -> pa.Table:
    """Run one SELECT over a collection.

    Views: `samples`, the rows of all committed manifests (see `schema.MANIFEST`) with their `unit` and
    `variant`; `plans`, the rows of all plans (see `schema.PLAN`); `units`, one row a marker (see `SHARDS`).

    Args:
        collection: What to ask.
        sql: In DuckDB's dialect. It cannot read or write files.

    Raises:
        InputError: DuckDB is not installed or refuses the SQL (its own first line), two columns of the answer
            share a name, there is no collection, or a marker, manifest or plan is damaged.
    """
    try:
        import duckdb
    except ImportError as error:
        raise InputError("queries need DuckDB: pip install 'impure[query]'") from error
    if not (collection.about_path.exists() or collection.marked() or (collection.root / "plans").is_dir()):
        raise InputError(f"{collection.root}: no collection there")
    views = {"samples": _samples(collection), "plans": _plans(collection), "shards": _shards(collection)}
    try:
        with duckdb.connect(":memory:", config=_CONFINED) as connection:
            for name, view in views.items():
                connection.register(name, view)
            table = _run(connection, sql)
        table.validate(full=True)  # a stranger's strings need not be UTF-8
    except (duckdb.Error, pa.ArrowException) as error:
        raise InputError(f"query: {first_line(error)}") from error
    if doubled := [name for name in table.column_names if table.column_names.count(name) > 1]:
        raise InputError(f"query: two columns are called {doubled[0]!r}; name one otherwise with AS")
    return table


def _run(connection: "DuckDBPyConnection", sql: str) -> pa.Table:
    """Run the one statement of `sql`, which has to be a SELECT (or what is short for one)."""
    kinds = [statement.type.name for statement in connection.extract_statements(sql)]
    if kinds != ["SELECT"]:
        raise InputError(
            f"query: expected one SELECT statement, found {' and '.join(kinds) or 'none'}; "
            f"for example: {next(iter(EXAMPLES.values()))}"
        )
    return connection.sql(sql).to_arrow_table()


def _samples(collection: Collection) -> ds.Dataset:
    """The manifests of all committed shards."""
    files = {}
    for each in collection.committed:
        if not each.manifest.is_file() or each.manifest.stat().st_size != each.marker["manifest"]["bytes"]:
            raise InputError(f"{each.manifest}: missing or damaged; see impure-data verify")
        files[each.manifest] = {"shard_id": str(each.shard_id), "variant": each.shard_id.attack}
    return _dataset(files, MANIFEST, ("shard_id", "variant"))


def _plans(collection: Collection) -> ds.Dataset:
    """The frozen plans."""
    return _dataset({path: {} for path in sorted(collection.root.glob("plans/*.parquet"))}, PLAN)


def _dataset(
    files: Mapping[Path, Mapping[str, str]], schema: pa.Schema, added: Sequence[str] = ()
) -> ds.Dataset:
    """Parquet files of one schema as a dataset.

    Args:
        files: Each with the values of the added columns, which are the same in all of its rows.
        schema: Of the files.
        added: Names of further columns of text. A query for one value of them opens no other file.

    Raises:
        InputError: A file cannot be read or has other columns.
    """
    kind, disk = ds.ParquetFileFormat(), LocalFileSystem()
    fragments = []
    for path, constants in files.items():
        _check_columns(path, schema)
        here = ds.scalar(True)
        for name, value in constants.items():
            here &= ds.field(name) == value
        fragments.append(kind.make_fragment(str(path), disk, partition_expression=here))
    shown = pa.schema([*schema, *(pa.field(name, pa.string()) for name in added)])
    return ds.FileSystemDataset(fragments, shown, kind, disk)


def _check_columns(path: Path, schema: pa.Schema) -> None:
    """A dataset would fill columns that a file lacks with nulls and say nothing."""
    try:
        found = pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a readable Parquet file ({first_line(error)})") from error
    if found.names != schema.names or found.types != schema.types:
        raise InputError(f"{path}: its columns are not those of this version of impure")


def _shards(collection: Collection) -> pa.Table:
    """One row for each marker; null where it does not say."""
    rows = [_shard_row(each) for each in collection.committed]
    try:
        return pa.Table.from_pylist(rows, schema=SHARDS)
    except (pa.ArrowException, OverflowError, TypeError) as error:
        raise InputError(
            f"{collection.root}: a marker holds a value of the wrong kind ({first_line(error)})"
        ) from error


def _shard_row(each: CommittedShard) -> dict[str, Any]:
    """A row of `units`; what else a marker holds is left out by the schema."""
    shard_id, marker = each.shard_id, each.marker
    attack = marker["config"].get("attack")
    place = {
        "shard_id": str(shard_id),
        "target": shard_id.target,
        "split": shard_id.split,
        "shard": shard_id.number,
    }
    return {
        **{name: marker.get(name) for name in SHARDS.names},
        **{name: marker["counts"].get(name) for name in COUNTS},
        **place,
        "attack": attack.get("name") if isinstance(attack, dict) else None,
        "variant": shard_id.attack,
        "tar_bytes": marker["tar"]["bytes"],
        "manifest_bytes": marker["manifest"]["bytes"],
    }
