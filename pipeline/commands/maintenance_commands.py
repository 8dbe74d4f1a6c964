"""`impure-data` verify, card, rebuild and preview."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from impure.manifests.base.errors import InputError
from impure.manifests.commands.click_options import device_options, json_option, root_argument
from impure.manifests.commands.console import SHORTFALL, Command, print_json, progress, writable
from impure.pipeline.commands.shared_options import storage_options
from impure.pipeline.sources.source_names import BUILTIN


@click.command("verify", cls=Command)
@root_argument
@click.option("--level", type=click.Choice(["size", "hash", "decode", "replay"]), default="decode",
    show_default=True, help="Each includes those before it. decode compares every pixel's hash, norm and "
    "count; replay asks the target again, for some samples of each shard.",
)  # fmt: skip
@click.option("--samples", type=click.IntRange(min=1), default=8, show_default=True,
    help="For replay: of each shard.",
)  # fmt: skip
@click.option("--again", is_flag=True,
    help="For replay: attack each shard's first batch again; the same device, threads and versions must give "
    "the same pixels.",
)  # fmt: skip
@click.option("--repair", "mend", is_flag=True, help="Make the bad shards again, and no others.")
@click.option(
    "--images", default=BUILTIN, help="For --repair: the images, as for generate. [default: builtin]"
)
@click.option("--labels", type=click.Path(path_type=Path), help="Likewise.")
@click.option("--target", "targets", multiple=True,
    help="For replay and --repair: the target, where its name is no known one; repeatable.",
)  # fmt: skip
@click.option("--weights", type=click.Path(path_type=Path), help="Its weights file.")
@device_options
@json_option
def verify_command(**given: Any) -> None:
    """Check that a collection is what its manifests say. Exit code 3 where it is not.

    \b
      impure-data verify ROOT
      impure-data verify ROOT --repair --images /data/imagenet
    """
    from impure.manifests.collection.collection import Collection
    from impure.pipeline.commands.verification import Checker
    from impure.pipeline.sources.open_source import open_source

    root, shards = given["root"], Collection(given["root"]).marked()
    if not shards and not Collection(root).missing():
        raise InputError(f"{root}: no committed shard there")
    asked = ("root", "level", "samples", "again", "targets", "weights", "device", "threads")
    checker = Checker(**{name: given[name] for name in asked})
    found = left = checker.check()
    if given["mend"] and found:
        left = checker.mend(found, open_source(given["images"], given["labels"]))
    if given["as_json"]:
        documents = {"bad": [asdict(each) for each in found], "left": [asdict(each) for each in left]}
        print_json({"root": str(root), "level": given["level"], "shards": len(shards), **documents})
    else:
        for each in found:
            click.echo(f"{each.shard_id}: {each.problem}")
        click.echo(f"{len(shards)} shards checked at level {given['level']}: {len(found) or 'nothing'} wrong")
        if given["mend"]:
            click.echo(f"{len(found) - len(left)} mended, {len(left)} left")
        elif found:
            click.echo("To make the bad shards again: the same command with --repair and the --images.")
    raise SystemExit(SHORTFALL if left else 0)


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
    from impure.manifests.sharing.dataset_card import write_card
    from impure.pipeline.targets.of_collection import class_names

    shards = select_shards(str(root))
    with progress(2 * len(shards), " files") as advance:
        paths = write_card(Collection(root), class_names(shards), progress=advance)
    if as_json:
        return print_json({"root": str(root), "files": [str(path) for path in paths]})
    return click.echo("\n".join(map(str, paths)))


@click.command("rebuild", cls=Command)
@root_argument
@click.option("--images", required=True, help="Your own ImageNet, as for generate: what was photographed.")
@click.option("--labels", type=click.Path(path_type=Path), help="Likewise.")
@storage_options
@click.option("--out", type=click.Path(path_type=Path), help="[default: ROOT-pairs]")
@json_option
def rebuild_command(**given: Any) -> None:
    """Put a collection of perturbations (--profile delta) and your own photographs together into pairs.

    Every pixel has to hash to what the manifest says. Exit code 3 where photographs are missing or differ.
    """
    from impure.manifests.collection.collection import Collection
    from impure.manifests.collection.storage import Storage
    from impure.manifests.collection.writer import rewriting
    from impure.pipeline.maintenance.rebuild import rebuild
    from impure.pipeline.sources.open_source import open_source

    collection, source = Collection(given["root"]), open_source(given["images"], given["labels"])
    root = collection.root
    out = Collection(writable(given["out"] or root.with_name(f"{root.name}-pairs")))
    profile = "clean-once" if given["clean"] == "once" else "pairs"
    storage = Storage(encoding=given["encoding"], profile=profile)
    images = sum(each.marker["counts"]["planned"] for each in collection.committed)
    with progress(images, " images") as advance:
        write = rewriting(collection, out, storage)
        found = list(rebuild(collection, source, out, storage, write, advance))
    lost = {str(each.shard_id): each.lost for each in found if each.lost}
    if given["as_json"]:
        print_json({"out": str(out.root), "stored": sum(each.stored for each in found), "lost": lost})
    else:
        for shard_id, reasons in lost.items():
            source_id, reason = next(iter(reasons.items()))
            click.echo(f"{shard_id}: {len(reasons)} lost, the first {source_id}: {reason}")
        click.echo(f"{sum(each.stored for each in found)} pairs in {len(found)} shards: {out.root}")
    raise SystemExit(SHORTFALL if lost else 0)


@click.command("preview", cls=Command)
@root_argument
@click.option(
    "--per-attack", type=click.IntRange(1, 16), default=4, show_default=True, help="Pairs in a row."
)
@click.option("--out", type=click.Path(path_type=Path), help="PNG file. [default: ROOT/preview.png]")
def preview_command(root: Path, per_attack: int, out: Path | None) -> None:
    """Draw a contact sheet: clean, adversarial, perturbation ×8, predictions."""
    from impure.manifests.base.files import atomic_path
    from impure.manifests.collection.shard_filter import select_shards
    from impure.manifests.views.preview import contact_sheet
    from impure.pipeline.targets.of_collection import class_names

    shards = select_shards(str(root))
    sheet = contact_sheet(shards, per_attack, class_names(shards))
    path = out or root / "preview.png"
    with atomic_path(path) as temporary:
        sheet.save(temporary, "PNG")
    click.echo(str(path))
