"""`impure-purify`: purify the images of a file or a folder."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from impure.manifests.commands.click_options import device_options, json_option
from impure.manifests.commands.console import (
    HELP,
    SHORTFALL,
    CommandWithSections,
    print_json,
    say,
)
from impure.purifier.commands.shared_inputs import (
    feature_step_option,
    image_step_option,
    open_device,
    partition_option,
    set_noise_steps,
)

if TYPE_CHECKING:
    from impure.purifier.riae.noise import Partition


SECTIONS = {"checkpoint": "Purifier", "device": "Run"}
"""Headings in --help, by the first option below each."""


@click.command("impure-purify", cls=CommandWithSections, sections=SECTIONS, context_settings=HELP)
@click.version_option(package_name="impure")
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("destination", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--checkpoint", required=True, type=click.Path(path_type=Path),
    help="The purifier: a run's folder, its model.safetensors, or owner/name[@revision] on the Hugging Face "
    "Hub.",
)  # fmt: skip
@click.option("--samples", type=click.IntRange(min=1), default=1, show_default=True,
    help="Purify each image so often, and write the average.",
)  # fmt: skip
@partition_option
@image_step_option
@feature_step_option
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True,
    help="Random seed of the purifier's noise.",
)  # fmt: skip
@device_options
@json_option
def purify(
    source: Path,
    destination: Path,
    checkpoint: Path,
    samples: int,
    partition: "Partition | None",
    image_step: int | None,
    feature_step: int | None,
    seed: int,
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Purify an image, or all images below a folder.

    IN is an image or a folder; OUT is a .png file or a folder. Pictures keep their size and their place in
    the tree, and are written as PNG; large ones are purified in overlapping tiles, and a line says so. Images
    that cannot be read are named and skipped, with exit code 3.

    \b
      impure-purify photo.jpg clean.png --checkpoint ./impure-runs/builtin-tiny
      impure-purify ./photos ./purified --checkpoint lab/purifier --samples 4
    """
    from impure.purifier.defences.files.purify_files import purify_path
    from impure.purifier.defences.files.tiles import tile_side
    from impure.purifier.riae.model import RIAE

    riae = RIAE.from_pretrained(checkpoint)
    set_noise_steps(riae, image_step, feature_step)
    opened = open_device(device, threads)
    done = purify_path(
        source,
        destination,
        riae,
        opened,
        progress=True,
        seed=seed,
        samples=samples,
        partition=partition or "uniform",
    )
    for _, reason in done.skipped:
        say(f"skipped {reason}")
    if done.tiled:
        side = tile_side(riae.config)
        say(
            f"{done.tiled} larger than the {side} pixels that RIAE's positions reach: "
            "purified in overlapping tiles"
        )
    if as_json:
        print_json(asdict(done))
    else:
        click.echo(f"{done.written} purified, {len(done.skipped)} skipped: {destination}")
    raise SystemExit(SHORTFALL if done.skipped else 0)
