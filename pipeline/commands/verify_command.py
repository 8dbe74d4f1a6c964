"""`impure-data verify`: check a collection, and on request make what is wrong again."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from impure.manifests.base.errors import InputError
from impure.manifests.commands.click_options import (
    comma_separated,
    device_options,
    json_option,
    root_argument,
)
from impure.manifests.commands.console import SHORTFALL, Command, print_json, print_text
from impure.pipeline.commands.shared_options import classifier_options
from impure.pipeline.sources.source_names import BUILTIN


@click.command("verify", cls=Command)
@root_argument
@click.option("--level", type=click.Choice(["size", "hash", "decode", "replay"]), default="decode",
    show_default=True, help="How thorough; each level includes those before it. decode compares every "
    "pixel's hash, norm and count. replay classifies some samples of each shard again.",
)  # fmt: skip
@click.option("--attack", "attacks", help="Check only shards of these attacks, separated by commas.")
@click.option("--split", "splits", help="Check only shards of these splits, separated by commas.")
@click.option("--samples", type=click.IntRange(min=1), default=8, show_default=True,
    help="For replay: number of samples of each shard.",
)  # fmt: skip
@click.option("--again", is_flag=True,
    help="For replay: also attack each shard's first batch again. The same device, threads and versions must "
    "give the same pixels.",
)  # fmt: skip
@click.option("--repair", is_flag=True, help="Make the bad shards again, and no others.")
@click.option("--images", default=BUILTIN, show_default=True,
    help="For --repair: the images, as for generate.",
)  # fmt: skip
@click.option("--labels", type=click.Path(path_type=Path), help="For --repair: the labels, as for generate.")
@classifier_options
@device_options
@json_option
def verify_command(
    root: Path,
    attacks: str | None,
    splits: str | None,
    repair: bool,
    images: str,
    labels: Path | None,
    as_json: bool,
    **check_options: Any,
) -> None:
    """Check that a collection is what its manifests say.

    Exit code 3 where it is not.

    \b
      impure-data verify ROOT
      impure-data verify ROOT --level replay --attack cw,deepfool --split test
      impure-data verify ROOT --repair --images /data/imagenet
    """
    from impure.manifests.base.logs import collection_log, new_run_id, start_log
    from impure.manifests.collection.collection import Collection
    from impure.pipeline.commands.verification import Checker, CheckOptions
    from impure.pipeline.sources.open_source import open_source

    options = CheckOptions(attacks=comma_separated(attacks), splits=comma_separated(splits), **check_options)
    checker = Checker(root, options)
    shards = checker.shard_ids()
    if not shards and not Collection(root).missing():
        raise InputError(f"{root}: no committed shard there")
    findings = left = checker.check()
    if repair and findings:
        start_log(collection_log(root, new_run_id()))
        left = checker.repair(findings, open_source(images, labels))
    if as_json:
        documents = {
            "bad": [asdict(finding) for finding in findings],
            "left": [asdict(finding) for finding in left],
        }
        print_json({"root": str(root), "level": options.level, "shards": len(shards), **documents})
    else:
        for finding in findings:
            print_text(f"{finding.shard_id}: {finding.problem}")
        wrong = len(findings) or "nothing"
        click.echo(f"{len(shards)} shards checked at level {options.level}: {wrong} wrong")
        if repair:
            click.echo(f"{len(findings) - len(left)} mended, {len(left)} left")
        elif findings:
            click.echo("To make the bad shards again: the same command with --repair and the --images.")
    raise SystemExit(SHORTFALL if left else 0)
