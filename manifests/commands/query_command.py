"""`impure-data query`: SQL over a collection."""

from pathlib import Path

import click

from impure.manifests.base.errors import InputError
from impure.manifests.commands.click_options import json_option, root_argument
from impure.manifests.commands.console import Command, print_json


@click.command("query", cls=Command)
@root_argument
@click.argument("sql")
@json_option
@click.option("--csv", "print_csv", is_flag=True, help="Print CSV on standard output.")
def query_command(root: Path, sql: str, as_json: bool, print_csv: bool) -> None:
    """Query a collection with SQL.

    The dialect is DuckDB's (pip install 'impure[query]'). There are three views: samples, with a row for each
    image of each committed shard, failed ones too; shards, with a row for each committed shard; and plans,
    with a row for each sampled image. samples and shards join on shard_id. A query can read nothing else, and
    write nothing.

    \b
      SELECT variant, avg(success::INT) FROM samples GROUP BY variant
      SELECT key, l2 FROM samples WHERE success ORDER BY l2 LIMIT 10
      SELECT source_id FROM samples GROUP BY source_id HAVING NOT bool_or(success)
    """
    from impure.manifests.collection.collection import Collection
    from impure.manifests.views.query import query
    from impure.manifests.views.query_output import as_csv, as_text, records

    if as_json and print_csv:
        raise InputError("--json and --csv at once: choose one")
    table = query(Collection(root), sql)
    if as_json:
        return print_json(records(table))
    return click.echo(as_csv(table), nl=False) if print_csv else click.echo(as_text(table))
