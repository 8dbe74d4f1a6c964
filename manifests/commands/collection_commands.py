"""Commands that need a collection and nothing else: no network, no GPU."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from impure.manifests.base.errors import InputError
from impure.manifests.commands.click_options import comma_separated, json_option, options, root_argument
from impure.manifests.commands.console import SHORTFALL, Command, print_json, progress, say

if TYPE_CHECKING:
    from impure.manifests.sharing.transfer import Transfer


@click.command("status", cls=Command)
@root_argument
@json_option
def status_command(root: Path, as_json: bool) -> None:
    """Say how much of a collection is there: shards, images, success rates, size."""
    from impure.manifests.checks.status import status, status_table
    from impure.manifests.collection.collection import Collection

    found = status(Collection(root))
    if not found["groups"] and not found["missing"] and not Collection(root).about_path.exists():
        raise InputError(f"{root}: no collection there")
    print_json(found) if as_json else click.echo(status_table(found))


@click.command("ls", cls=Command)
@root_argument
@json_option
def ls_command(root: Path, as_json: bool) -> None:
    """List the committed shards."""
    from impure.manifests.collection.collection import Collection

    shards = Collection(root).committed
    if as_json:
        return print_json([{"tar": str(each.tar), **each.marker} for each in shards])
    for each in shards:
        click.echo(
            f"{each.tar}  {each.marker['counts']['stored']} pairs  {each.marker['tar']['bytes']} bytes"
        )
    return None


ATTACK_FILTERS = options(
    click.option("--target", "targets", help="Only these targets, separated by commas."),
    click.option("--attack", "attacks", help="Only these attacks."),
    click.option("--split", "splits", help="Only these splits."),
)


@click.command("query", cls=Command)
@root_argument
@click.argument("sql")
@json_option
@click.option("--csv", "as_comma", is_flag=True, help="Print CSV on standard output.")
def query_command(root: Path, sql: str, as_json: bool, as_comma: bool) -> None:
    """Ask a collection in SQL (DuckDB: pip install 'impure[query]').

    Views: samples, every row of every committed manifest; plans; shards. Nothing else is read or written.

    \b
      SELECT variant, avg(success::INT) FROM samples GROUP BY variant
      SELECT key, l2 FROM samples WHERE success ORDER BY l2 LIMIT 10
      SELECT source_id FROM samples GROUP BY source_id HAVING NOT bool_or(success)
    """
    from impure.manifests.collection.collection import Collection
    from impure.manifests.views.query import query
    from impure.manifests.views.query_output import as_csv, as_text, records

    if as_json and as_comma:
        raise InputError("--json and --csv at once: choose one")
    table = query(Collection(root), sql)
    if as_json:
        return print_json(records(table))
    return click.echo(as_csv(table), nl=False) if as_comma else click.echo(as_text(table))


@click.command("merge", cls=Command)
@click.argument("root", type=click.Path(path_type=Path, file_okay=False))
@click.argument("other", type=click.Path(path_type=Path, exists=True, file_okay=False))
@json_option
def merge_command(root: Path, other: Path, as_json: bool) -> None:
    """Bring the committed units of the collection OTHER into ROOT.

    Only whole shards whose hashes hold; plans and configs must agree, or nothing is changed. Killed at any
    moment, the same command goes on. Exit code 3 where shards were left out, or pixels differ.
    """
    from impure.manifests.collection.collection import Collection
    from impure.manifests.sharing.merge import merge

    with progress(len(Collection(other).marked()), " shards") as advance:
        merged = merge(Collection(root), Collection(other), advance)
    if as_json:
        print_json({"root": str(root), **asdict(merged)})
    else:
        click.echo(f"{len(merged.copied)} copied, {len(merged.there)} there already: {root}")
        for finding in (*merged.bad, *merged.differing):
            click.echo(f"{finding.shard_id}: {finding.problem}")
    raise SystemExit(SHORTFALL if merged.bad or merged.differing else 0)


@click.command("pull", cls=Command)
@click.argument("url")
@click.argument("root", type=click.Path(path_type=Path, file_okay=False), required=False)
@ATTACK_FILTERS
@json_option
def pull_command(url: str, root: Path | None, as_json: bool, **filters: str | None) -> None:
    """Fetch a collection, or a part of it, from https://, s3://, gs://, hf:// or a folder.

    Every file is checked against its hash. Killed at any moment, the same command goes on.

    \b
      impure-data pull s3://lab/imagenet --attack pgd --target resnet101
    """
    from impure.manifests.sharing.transfer import pull

    goal = root or Path("impure-data") / (url.rstrip("/").rpartition("/")[2] or "pulled")
    with transferred() as advance:
        found = pull(
            url, goal, **{name: comma_separated(text) for name, text in filters.items()}, progress=advance
        )
    report_transfer(found, goal, as_json, "run `impure-data card` to describe what is here now")


@click.command("push", cls=Command)
@root_argument
@click.argument("url")
@json_option
def push_command(root: Path, url: str, as_json: bool) -> None:
    """Copy a collection to s3://, gs://, hf:// or a folder; what is there already is not sent again."""
    from impure.manifests.sharing.transfer import push

    with transferred() as advance:
        found = push(root, url, progress=advance)
    hint = "the goal holds more than this folder: pull it, run `impure-data card`, push again"
    report_transfer(found, url, as_json, hint)


@contextmanager
def transferred() -> Iterator[Callable[[int, int], object]]:
    """A bar of bytes whose end is known only once the transfer has begun."""
    from tqdm import tqdm

    with tqdm(unit="B", unit_scale=True, unit_divisor=1024, dynamic_ncols=True) as bar:

        def advance(count: int, total: int) -> None:
            bar.total = total
            bar.update(count)

        yield advance


def report_transfer(found: "Transfer", goal: Path | str, as_json: bool, hint: str) -> None:
    """What was transferred."""
    if as_json:
        return print_json({"goal": str(goal), **asdict(found)})
    click.echo(f"{found.shards} shards, {found.there} there already, {found.bytes / 2**20:.1f} MiB: {goal}")
    return None if found.described else say(f"The card does not describe it: {hint}.")


COMMANDS = (status_command, ls_command, query_command, merge_command, pull_command, push_command)
