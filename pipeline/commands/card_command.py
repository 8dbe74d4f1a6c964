"""`impure-data card`: write what makes a collection a data set to share."""

from pathlib import Path

import click

from impure.manifests.commands.click_options import json_option, root_argument
from impure.manifests.commands.console import Command, print_json, progress


@click.command("card", cls=Command)
@root_argument
@json_option
def card_command(root: Path, as_json: bool) -> None:
    """Write what makes a collection a data set to share.

    README.md (success rates, contact sheet, how to read it), croissant.json, SHA256SUMS, shard indices.
    Run it again after every change.
    """
    from impure.manifests.collection.collection import Collection
    from impure.manifests.collection.shard_filter import select_shards
    from impure.manifests.sharing.card.dataset_card import write_card
    from impure.pipeline.targets.of_collection import class_names

    shards = select_shards(str(root))
    with progress(2 * len(shards), " files") as advance:
        paths = write_card(Collection(root), class_names(shards), progress=advance)
    if as_json:
        return print_json({"root": str(root), "files": [str(path) for path in paths]})
    return click.echo("\n".join(map(str, paths)))
