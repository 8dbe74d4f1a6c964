"""What the purifier's commands share: opening shards here or far away, the device, and some options."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from impure.manifests.base.errors import InputError
from impure.manifests.commands.click_options import comma_separated
from impure.manifests.commands.console import say

if TYPE_CHECKING:
    import torch

    from impure.manifests.collection.collection import CommittedShard
    from impure.purifier.riae.model import RIAE

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

partition_option = click.option(
    "--partition", type=click.Choice(["uniform", "random"]), show_default="uniform",
    help="How riae divides an image's patches into subsets (paper 5.3).",
)  # fmt: skip

image_step_option = click.option(
    "--image-step", type=click.IntRange(0, 999), show_default="the checkpoint's, by training 400",
    help="Diffusion step of riae's noise on the image, of 1000: higher hides more.",
)  # fmt: skip
feature_step_option = click.option(
    "--feature-step", type=click.IntRange(0, 999), show_default="the checkpoint's, by training 600",
    help="Diffusion step of riae's noise on the features, of 1000.",
)  # fmt: skip


def set_noise_steps(riae: "RIAE", image_step: int | None, feature_step: int | None) -> None:
    """Change a purifier's noise steps at test time, as far as they are given.

    Raises:
        InputError: Its masking mode has no such noise.
    """
    from impure.purifier.riae.riae_config import FEATURE_NOISE, IMAGE_NOISE

    for option, step, modes in (
        ("image_step", image_step, IMAGE_NOISE),
        ("feature_step", feature_step, FEATURE_NOISE),
    ):
        if step is None:
            continue
        if riae.config.mask not in modes:
            name = option.replace("_", "-")
            raise InputError(f"--{name}: masking mode {riae.config.mask} has no such noise")
        change: dict[str, Any] = {option: step}
        riae.config = replace(riae.config, **change)


def whole_numbers(option: str, text: str, example: str) -> tuple[int, ...]:
    """The numbers that an option lists, separated by commas.

    Raises:
        InputError: They are no whole numbers.
    """
    try:
        return tuple(int(number) for number in comma_separated(text))
    except ValueError as error:
        raise InputError(f"{option} {text!r}: write whole numbers such as {example}") from error


def shards_option(*, required: bool = False) -> Decorator:
    """The option that names a collection, or some of its shards."""
    return click.option(
        "--shards", required=required, help="Folder or URL (https://, s3://, …) of a collection, or a glob "
        "of its tars such as 'ROOT/resnet101/*/train/*.tar' or 'ROOT/*/pgd/train/{000000..000009}.tar'.",
    )  # fmt: skip


def open_shards(shards: str, filters: dict[str, list[str]]) -> "list[CommittedShard]":
    """The shards that `--shards` names: a folder or a glob here, or a URL, whose shards are cached.

    Args:
        shards: What the option says.
        filters: Names of splits, attacks or targets to keep; see `select_shards`.

    Raises:
        InputError: There are none, or the URL cannot be read.
    """
    from impure.manifests.sharing.cache import is_url
    from impure.manifests.sharing.open_collection import cache_folder, open_collection

    if is_url(shards):
        say(f"Shards are kept in {cache_folder(shards)} once they are read.")
    return open_collection(shards, **filters)


def open_validation(shards: str) -> "list[CommittedShard]":
    """The shards of the split validation, on whose clean images detectors set their thresholds.

    Raises:
        InputError: There are none.
    """
    try:
        return open_shards(shards, {"splits": ["validation"]})
    except InputError as error:
        raise InputError(f"detectors set their thresholds on the split validation: {error}") from error


def open_device(name: str, threads: int | None, *, tiny: bool = False) -> "torch.device":
    """The device of `--device` and `--threads`; by default all cores, or one for tiny networks."""
    from impure.pipeline import devices

    return devices.open_device(name, threads or (1 if tiny else devices.cores()))
