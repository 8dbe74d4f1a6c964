"""`impure-data sanitise`: take backdoor triggers out of a folder of images."""

from dataclasses import asdict
from pathlib import Path

import click

from impure.manifests.commands.click_options import default_of, device_options, json_option
from impure.manifests.commands.console import SHORTFALL, Command, print_json, progress, say
from impure.purifier.commands.shared_inputs import open_device
from impure.purifier.sanitise.sanitise_config import SanitiseConfig


@click.command("sanitise", cls=Command)
@click.argument("images", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--purifier", required=True, metavar="NAME:KEY=VALUE",
    help="The purifier, as impure-eval --defence takes it: riae:weights=RUN, diffpure:weights=RUN:t=200.",
)  # fmt: skip
@click.option("--target", required=True,
    help="The classifier that was trained on the images, whose labels are followed: a card.json, or a name.",
)  # fmt: skip
@click.option("--weights", type=click.Path(path_type=Path),
    help="Weights file of the target, where the card names none.",
)  # fmt: skip
@click.option("--split", type=click.Choice(["train", "val"]), default="train", show_default=True,
    help="Split of the folder.",
)  # fmt: skip
@click.option("--rounds", type=click.IntRange(min=1), default=default_of(SanitiseConfig, "rounds"),
    show_default=True, help="Number of purifications of each image, one after the other.",
)  # fmt: skip
@click.option("--flips", type=click.IntRange(min=0), default=default_of(SanitiseConfig, "flips"),
    show_default=True, help="An image is suspicious if more rounds than this give it another label.",
)  # fmt: skip
@click.option("--outlier", type=click.FloatRange(min=0, min_open=True),
    default=default_of(SanitiseConfig, "outlier"), show_default=True,
    help="A class is a backdoor's target if its share of suspicious images lies further above the median of "
    "all classes than so many (scaled) median absolute deviations.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=default_of(SanitiseConfig, "seed"),
    show_default=True, help="Random seed of the purifier's noise.",
)  # fmt: skip
@click.option("--batch-size", type=click.IntRange(min=1), show_default=True,
    default=default_of(SanitiseConfig, "batch_size"), help="Number of images purified at once.",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), show_default="IMAGES-sanitised",
    help="Folder to write the clean images and report.parquet to.",
)  # fmt: skip
@device_options
@json_option
def sanitise_command(
    images: Path,
    purifier: str,
    target: str,
    weights: Path | None,
    split: str,
    out: Path | None,
    device: str,
    threads: int | None,
    as_json: bool,
    **settings: float,
) -> None:
    """Take backdoor triggers out of a folder of images.

    IMAGES is laid out as ImageNet is (train|val/<wnid>/*). Each image is purified in several rounds; those
    whose label flips, in a class where unusually many do, are replaced by a purified image. The report says
    of every image why. Killed at any moment, the same command continues. Exit code 3 where images are
    unreadable.

    \b
      impure-data sanitise ./poisoned --purifier diffpure:weights=RUN --target card.json
    """
    from impure.pipeline.sources.folder import FolderSource
    from impure.pipeline.targets.load import load_target
    from impure.purifier.defences.defence_registry import build_defence, read_text
    from impure.purifier.sanitise.sanitise_folder import sanitise_folder

    config = SanitiseConfig(**settings)  # type: ignore[arg-type]  # click has made them numbers
    source = FolderSource(images)
    classifier = load_target(target, weights)
    opened = open_device(device, threads)
    name, parameters = read_text(purifier)
    parameters.pop("weights", None)  # a path; the record holds their digest
    defence = build_defence(purifier).to(opened).eval()
    out = out or images.with_name(f"{images.resolve().name}-sanitised")
    with progress(len(source.images(split)), " images") as advance:
        done = sanitise_folder(
            source, split, defence, classifier.to(opened), config, out,
            purifier={"name": name, **parameters}, advance=advance,
        )  # fmt: skip
    if done.unreadable:
        say(f"{done.unreadable} images cannot be read and are left out; the report names them")
    if as_json:
        print_json({"out": str(out), **asdict(done)})
    else:
        classes = ", ".join(done.target_classes) or "no class"
        click.echo(
            f"A backdoor seems to lead to {classes}. {done.kept} kept, {done.purified} purified: {out}"
        )
    raise SystemExit(SHORTFALL if done.unreadable else 0)
