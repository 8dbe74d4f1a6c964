"""SQL queries over a collection, run by DuckDB and kept from everything else.

Collection and SQL may be a stranger's, so DuckDB is handed Arrow tables and datasets (see `query_views`) and
is itself kept from files, extensions and the network.
"""

from typing import TYPE_CHECKING

import pyarrow as pa

from impure.manifests.base.errors import InputError, first_line
from impure.manifests.collection.collection import Collection
from impure.manifests.views.query_views import plans_view, samples_view, shards_view

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

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

_SELECT = (["SELECT"], ["MULTI"])
"""Kinds of statements that are run; DuckDB makes several of one PIVOT, a type of its own and a SELECT."""

_SANDBOX: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "python_enable_replacements": False,  # no looking at the Python variables of its caller
    "temp_directory": "",
    "lock_configuration": True,
}


def query(collection: Collection, sql: str) -> pa.Table:
    """Run one SELECT over a collection.

    Views: `samples`, the rows of all committed manifests (see `schema.MANIFEST`) with their `shard_id` and
    `variant`; `plans`, the rows of all plans (see `schema.PLAN`); `shards`, one row for each marker (see
    `query_views.SHARDS`).

    Args:
        collection: What to query.
        sql: In DuckDB's dialect. It cannot read or write files.

    Raises:
        InputError: DuckDB is not installed or refuses the SQL (in its own words), two columns of the result
            share a name, there is no collection, or a marker, manifest or plan is damaged.
    """
    try:
        import duckdb
    except ImportError as error:
        raise InputError("queries need DuckDB: pip install 'impure[query]'") from error
    if not (collection.about_path.exists() or collection.marked() or (collection.root / "plans").is_dir()):
        raise InputError(f"{collection.root}: no collection there")
    views = {
        "samples": samples_view(collection),
        "plans": plans_view(collection),
        "shards": shards_view(collection),
    }
    try:
        with duckdb.connect(":memory:", config=_SANDBOX) as connection:
            for name, view in views.items():
                connection.register(name, view)
            table = _run(connection, sql)
        table.validate(full=True)  # a stranger's strings need not be UTF-8
    except (duckdb.Error, pa.ArrowException) as error:
        raise InputError(f"query: {_reason(error)}") from error
    _check_names(table)
    return table


def _run(connection: "DuckDBPyConnection", sql: str) -> pa.Table:
    """Run the one statement of `sql`, which has to be a SELECT (or what is short for one)."""
    kinds = [statement.type.name for statement in connection.extract_statements(sql)]
    if kinds not in _SELECT:
        raise InputError(
            f"query: expected one SELECT statement, found {' and '.join(kinds) or 'none'}; "
            f"for example: {next(iter(EXAMPLES.values()))}"
        )
    return connection.sql(sql).to_arrow_table()


def _reason(error: Exception) -> str:
    """What DuckDB said is wrong, and what it proposes: `Did you mean …`, `Candidate bindings: …`."""
    _, _, more = str(error).partition("\n")
    proposal = first_line(ValueError(more)) if more.startswith(("Did you mean", "Candidate bindings")) else ""
    return f"{first_line(error)} {proposal}".strip()


def _check_names(table: pa.Table) -> None:
    """Refuse a result of which rows as dictionaries would lose a column."""
    if doubled := [name for name in table.column_names if table.column_names.count(name) > 1]:
        raise InputError(f"query: two columns are called {doubled[0]!r}; name one otherwise with AS")
