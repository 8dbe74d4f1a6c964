"""`impure-data` status and ls: what a collection holds."""

from pathlib import Path

import click

from impure.manifests.base.errors import InputError
from impure.manifests.commands.click_options import json_option, root_argument
from impure.manifests.commands.console import Command, print_json


@click.command("status", cls=Command)
@root_argument
@json_option
def status_command(root: Path, as_json: bool) -> None:
    """Show what a collection holds: counts, rates and sizes.

    One row for each target, attack and split, from the markers alone: shards, stored and failed images, how
    many fooled the target, bytes. Below it stand plans that no attack was made on yet, and how many planned
    shards are still missing.
    """
    from impure.manifests.checks.status import status, status_table
    from impure.manifests.collection.collection import Collection

    summary = status(Collection(root))
    if not summary["groups"] and not summary["plans"] and not Collection(root).about_path.exists():
        raise InputError(f"{root}: no collection there")
    print_json(summary) if as_json else click.echo(status_table(summary))


@click.command("ls", cls=Command)
@root_argument
@json_option
def ls_command(root: Path, as_json: bool) -> None:
    """List the committed shards of a collection.

    One line for each: path of its tar, number of pairs, size. With --json, the whole completion marker.
    """
    from impure.manifests.collection.collection import Collection

    shards = Collection(root).committed
    if as_json:
        return print_json([{"tar": str(shard.tar), **shard.marker} for shard in shards])
    for shard in shards:
        counts, tar = shard.marker["counts"], shard.marker["tar"]
        click.echo(f"{shard.tar}  {counts['stored']} pairs  {tar['bytes']} bytes")
    return None
