"""`impure-data` pull, push and merge: collections from one place to another."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from impure.manifests.base.logs import collection_log, new_run_id, start_log
from impure.manifests.commands.click_options import comma_separated, json_option, root_argument
from impure.manifests.commands.console import (
    SHORTFALL,
    Command,
    byte_progress,
    print_json,
    print_text,
    progress,
    say,
)

if TYPE_CHECKING:
    from impure.manifests.sharing.transfer import Transfer


@click.command("pull", cls=Command)
@click.argument("url")
@click.argument("root", type=click.Path(path_type=Path, file_okay=False), required=False)
@click.option("--target", "targets", help="Only shards of these targets, separated by commas.")
@click.option("--attack", "attacks", help="Only shards of these attacks, separated by commas.")
@click.option("--split", "splits", help="Only shards of these splits, separated by commas.")
@json_option
def pull_command(
    url: str, root: Path | None, targets: str | None, attacks: str | None, splits: str | None, as_json: bool
) -> None:
    """Download a collection, or part of one.

    URL is https://, s3://, gs://, hf:// or a folder; ROOT is the local folder, by default
    ./impure-data/NAME. Every file is checked against its hash. Killed at any moment, the same command goes
    on.

    \b
      impure-data pull s3://lab/imagenet --attack pgd --target resnet101
    """
    from impure.manifests.sharing.pull import pull

    destination = root or Path("impure-data") / (url.rstrip("/").rpartition("/")[2] or "pulled")
    start_log(collection_log(destination, new_run_id()))
    with byte_progress() as advance:
        transfer = pull(
            url, destination, targets=comma_separated(targets), attacks=comma_separated(attacks),
            splits=comma_separated(splits), progress=advance,
        )  # fmt: skip
    _print_transfer(transfer, destination, as_json, "run `impure-data card`")


@click.command("push", cls=Command)
@root_argument
@click.argument("url")
@json_option
def push_command(root: Path, url: str, as_json: bool) -> None:
    """Upload a collection to a bucket, a hub or a folder.

    URL is s3://, gs://, hf:// or a folder. Files that lie there already are not sent again; plans and configs
    must agree with those there. Killed at any moment, the same command goes on.

    \b
      impure-data push ./impure-data/imagenet s3://lab/imagenet
    """
    from impure.manifests.sharing.push import push

    start_log(collection_log(root, new_run_id()))
    with byte_progress() as advance:
        transfer = push(root, url, progress=advance)
    hint = "the destination holds more than this folder: pull it, run `impure-data card`, push again"
    _print_transfer(transfer, url, as_json, hint)


def _print_transfer(transfer: "Transfer", destination: Path | str, as_json: bool, hint: str) -> None:
    """Print what was transferred, and how to renew a card that does not describe it."""
    if as_json:
        return print_json({"destination": str(destination), **asdict(transfer)})
    size = transfer.bytes / 2**20
    click.echo(f"{transfer.shards} shards, {transfer.present} there already, {size:.1f} MiB: {destination}")
    return None if transfer.card_copied else say(f"The card does not describe what is there now: {hint}.")


@click.command("merge", cls=Command)
@click.argument("root", type=click.Path(path_type=Path, file_okay=False))
@click.argument("other", type=click.Path(path_type=Path, exists=True, file_okay=False))
@json_option
def merge_command(root: Path, other: Path, as_json: bool) -> None:
    """Merge another collection into this one.

    Copies the committed shards of the collection OTHER into ROOT, as far as their hashes hold. Plans and
    configs must agree, or nothing is changed. Killed at any moment, the same command goes on. Exit code 3
    where shards were left out, or pixels differ.
    """
    from impure.manifests.collection.collection import Collection
    from impure.manifests.sharing.merge import merge

    start_log(collection_log(root, new_run_id()))
    with progress(len(Collection(other).marked()), " shards") as advance:
        merged = merge(Collection(root), Collection(other), advance)
    if as_json:
        print_json({"root": str(root), **asdict(merged)})
    else:
        click.echo(f"{len(merged.copied)} copied, {len(merged.present)} there already: {root}")
        for finding in (*merged.bad, *merged.differing):
            print_text(f"{finding.shard_id}: {finding.problem}")
    raise SystemExit(SHORTFALL if merged.bad or merged.differing else 0)
