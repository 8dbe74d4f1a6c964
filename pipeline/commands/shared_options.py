"""Options that several commands share: images, target, storage, and where the collection lies."""

from pathlib import Path

import click

from impure.manifests.collection.storage_profiles import ENCODING_NAMES, PNG
from impure.manifests.commands.click_options import default_of, options
from impure.pipeline.generation.sample_config import PER_CLASS, SampleConfig
from impure.pipeline.sources.source_names import BUILTIN
from impure.pipeline.targets.target_names import TARGETS

AUTO = "auto"


def batch_size(text: str) -> int | str:
    """Read a whole number from 1, or auto."""
    if text == AUTO:
        return AUTO
    if text.isdigit() and int(text):
        return int(text)
    raise click.BadParameter(f"{text!r} is neither a whole number from 1 nor {AUTO}")


labels_option = click.option(
    "--labels", type=click.Path(path_type=Path),
    help="Ground truth of an ImageNet folder with a flat val/: a file with NAME WNID on each line.",
)  # fmt: skip

sample_options = options(
    click.option("--images", default=BUILTIN, show_default=True,
        help="ImageNet folder (train|val/<wnid>/*, or a flat val/ with --labels), WebDataset tars "
        "('/data/imagenet-*.tar', '…-{0000..0146}.tar'), or builtin: drawn images that need no download."),
    labels_option,
    click.option("--split", type=click.Choice([*PER_CLASS, "all"]), default="all", show_default=True,
        help="ImageNet's split. Its val yields the collection's splits validation and test, disjoint."),
    click.option("--target", show_default="the built-in classifier, for the built-in images",
        help=f"Classifier to attack: {', '.join(TARGETS)}, torchvision:NAME, timm:NAME, or a card.json."),
    click.option("--weights", type=click.Path(path_type=Path),
        help="Weights file of the target, where none can be downloaded."),
    click.option("--per-class", type=click.IntRange(min=1),
        show_default=f"{PER_CLASS['train']} in train, {PER_CLASS['val']} in validation and in test",
        help="Number of correctly classified images of each class in each split."),
    click.option("--validation-per-class", type=click.IntRange(min=1), show_default="as --per-class",
        help="The same of the split validation alone, of which fewer may do."),
    click.option("--seed", type=click.IntRange(min=0), default=default_of(SampleConfig, "seed"),
        show_default=True, help="Random seed of the sample and of the attacks."),
    click.option("--allow-short", is_flag=True,
        help="Accept classes with too few images, and end with exit code 3."),
)  # fmt: skip

storage_options = options(
    click.option("--encoding", type=click.Choice(ENCODING_NAMES), default=PNG, show_default=True,
        help="Lossless encoding of the stored images. WebP is smaller, and takes half the time to write."),
    click.option("--clean", type=click.Choice(["each", "once"]), default="each", show_default=True,
        help="Store the clean image with each attack's, or once for all of them."),
)  # fmt: skip

classifier_options = options(
    click.option("--target", "targets", multiple=True,
        help="card.json, timm:NAME or torchvision:NAME of a classifier that the shards were made on, where "
        f"its name is none of {', '.join(TARGETS)}. Repeat it for more."),
    click.option("--weights", multiple=True, metavar="[NAME=]FILE",
        help="Weights file of the shards' target NAME, where none can be downloaded. Repeat it for more; "
        "NAME= may be left away where there is one target."),
)  # fmt: skip

collection_options = options(
    click.option("--shard-size", type=click.IntRange(min=1), default=default_of(SampleConfig, "shard_size"),
        show_default=True, help="Number of images in a shard."),
    click.option("--out", type=click.Path(path_type=Path), show_default="./impure-data/SOURCE",
        help="Folder of the collection."),
)  # fmt: skip

batch_option = click.option(
    "--batch-size", type=batch_size, metavar="N|auto", default=AUTO, show_default=True,
    help="Number of images at once; auto is what the collection was begun with, else what the device holds. "
    "It is part of the configuration, as float32 rounding depends on it. It is halved where memory runs out.",
)  # fmt: skip
