"""`impure-data rebuild`: put perturbations and the user's own photographs together into pairs."""

from pathlib import Path

import click

from impure.manifests.base.logs import collection_log, new_run_id, start_log
from impure.manifests.collection.storage_profiles import CLEAN_ONCE, PAIRS
from impure.manifests.commands.click_options import json_option, root_argument
from impure.manifests.commands.console import SHORTFALL, Command, print_json, print_text, progress, writable
from impure.pipeline.commands.shared_options import labels_option, storage_options


@click.command("rebuild", cls=Command)
@root_argument
@click.option("--images", required=True,
    help="Your own ImageNet, as for generate: the photographs that the perturbations were made for.",
)  # fmt: skip
@labels_option
@storage_options
@click.option("--out", type=click.Path(path_type=Path), show_default="ROOT-pairs",
    help="Folder of the collection of pairs.",
)  # fmt: skip
@json_option
def rebuild_command(
    root: Path, images: str, labels: Path | None, encoding: str, clean: str, out: Path | None, as_json: bool
) -> None:
    """Put perturbations and your own photographs together.

    Makes pairs of a collection of perturbations (--profile delta). Every pixel has to hash to what the
    manifest says. Exit code 3 where photographs are missing or differ.
    """
    from impure.manifests.collection.collection import Collection
    from impure.manifests.collection.storage import Storage
    from impure.manifests.collection.writer import rewriting
    from impure.pipeline.maintenance.rebuild import rebuild
    from impure.pipeline.sources.open_source import open_source

    collection, source = Collection(root), open_source(images, labels)
    pairs = Collection(writable(out or root.with_name(f"{root.name}-pairs")))
    start_log(collection_log(pairs.root, new_run_id()))
    storage = Storage(encoding=encoding, profile=CLEAN_ONCE if clean == "once" else PAIRS)
    planned = sum(shard.marker["counts"]["planned"] for shard in collection.committed)
    with progress(planned, " images") as advance:
        write = rewriting(collection, pairs, storage)
        results = list(rebuild(collection, source, pairs, storage, write, advance))
    stored = sum(result.stored for result in results)
    lost = {str(result.shard_id): result.lost for result in results if result.lost}
    if as_json:
        print_json({"out": str(pairs.root), "stored": stored, "lost": lost})
    else:
        for shard_id, reasons in lost.items():
            source_id, reason = next(iter(reasons.items()))
            print_text(f"{shard_id}: {len(reasons)} lost, the first {source_id}: {reason}")
        click.echo(f"{stored} pairs in {len(results)} shards: {pairs.root}")
    raise SystemExit(SHORTFALL if lost else 0)
