"""Options that commands of this room share, and the attacks as `--attack` names them."""

from pathlib import Path

import click

from impure.manifests.commands.click_options import device_options, json_option, options
from impure.manifests.commands.console import Command
from impure.pipeline.attacks.attack_names import (
    IMPLEMENTATIONS,
    MORE_ATTACKS,
    PAPER_ATTACKS,
    PAPER_EPS_255,
    PRECISIONS,
    PRESETS,
    TARGET_CLASS_CHOICES,
)
from impure.pipeline.sources.source_names import BUILTIN
from impure.pipeline.targets.target_names import TARGETS

AUTO = "auto"


def batch_size(text: str) -> int | str:
    """Read a whole number from 1, or auto."""
    if text == AUTO or (text.isdigit() and int(text)):
        return text if text == AUTO else int(text)
    raise click.BadParameter(f"{text!r} is neither a whole number from 1 nor {AUTO}")


class Sweep(Command):
    """A command that takes several values after one `--eps`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read `--eps 4 8 16` as `--eps 4 --eps 8 --eps 16`."""
        spread: list[str] = []
        for arg in args:
            spread += ["--eps", arg] if spread[-2:-1] == ["--eps"] and arg.isdigit() else [arg]
        return super().parse_args(ctx, spread)


target_options = options(
    click.option(
        "--target",
        help=f"{', '.join(TARGETS)}, torchvision:NAME, timm:NAME, or a card.json. "
        "[default: the built-in classifier, for the built-in images]",
    ),
    click.option(
        "--weights", type=click.Path(path_type=Path), help="Weights file, where none can be downloaded."
    ),
)
storage_options = options(
    click.option("--encoding", type=click.Choice(["png", "webp"]), default="png", show_default=True,
        help="Of the stored images, lossless. WebP is three times as fast to write."),
    click.option("--clean", type=click.Choice(["each", "once"]), default="each", show_default=True,
        help="Store the clean image with each attack's, or once for all of them."),
)  # fmt: skip
sample_options = options(
    click.option(
        "--images", default=BUILTIN,
        help="ImageNet folder (train|val/<wnid>/*, or a flat val/ with --labels), WebDataset tars "
        "('/data/imagenet-*.tar'), or builtin: drawn images that need no download. [default: builtin]",
    ),
    click.option("--labels", type=click.Path(path_type=Path),
        help="Ground truth of a flat val/: NAME WNID a line."),
    click.option(
        "--split", type=click.Choice(["train", "val", "all"]), default="all", show_default=True,
        help="ImageNet's split. val yields the splits validation and test, disjoint.",
    ),
    target_options,
    click.option(
        "--per-class", type=click.IntRange(min=1),
        help="Correctly classified images of a class in each split. [default: 10 in train, 5 in others]",
    ),
    click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of all draws."),
    click.option("--shard-size", type=click.IntRange(min=1), default=500, show_default=True,
        help="Images in a shard."),
    click.option("--batch-size", type=batch_size, metavar="N|auto", default=AUTO, show_default=True,
        help="Images at once. auto: as the collection was begun, else what the device holds. Part of the "
        "configuration, as float32 rounding depends on it; halved where memory runs out."),
    click.option("--allow-short", is_flag=True, help="Accept classes with too few images (exit code 3)."),
    device_options,
    click.option("--out", type=click.Path(path_type=Path),
        help="Folder of the collection. [default: ./impure-data/SOURCE]"),
    json_option,
)  # fmt: skip
attack_options = options(
    click.option(
        "--attack", required=True, metavar="NAME[,NAME…]|all",
        help=f"{', '.join(PAPER_ATTACKS)}; clean stores untouched pairs; all is clean and the nine. Beyond the "
        f"paper: {', '.join(MORE_ATTACKS)}.",
    ),
    click.option("--eps", type=int, multiple=True, default=(PAPER_EPS_255,), metavar="N …",
        help="L∞ budget in units of 1/255; several make a sweep: --eps 4 8 16. [default: 16]"),
    click.option("--targeted", type=click.Choice(TARGET_CLASS_CHOICES),
        help="Steer to one class, chosen for each image. [default: any but the true one]"),
    click.option("--preset", type=click.Choice(PRESETS), default="paper", show_default=True,
        help="Parameters: the paper's, or Torchattacks' defaults."),
    click.option("--set", "overrides", multiple=True, metavar="K=V",
        help="One parameter, e.g. --set steps=20."),
    click.option(
        "--implementation", type=click.Choice(IMPLEMENTATIONS), default="impure",
        show_default=True, help="The libraries need `pip install 'impure[references]'`.",
    ),
    click.option("--restarts", type=click.IntRange(min=1), default=1, show_default=True,
        help="Runs from fresh draws, each on the images that withstood those before."),
    click.option("--precision", type=click.Choice(PRECISIONS), default="fp32",
        show_default=True, help="Of the attack; the verdict is always fp32."),
    click.option("--compile", "compiled", is_flag=True,
        help="Attack through the target compiled by PyTorch."),
)  # fmt: skip
crew_options = options(
    click.option("--executor", type=click.Choice(["inline", "local", "rank", "ray", "slurm"]),
        default="inline", show_default=True, help="Who works: this process; one process per GPU or share "
        "of the CPU; one of several machines (--worker, a Slurm array, torchrun); a Ray cluster; Slurm "
        "jobs."),
    click.option("--workers", type=click.IntRange(min=1),
        help="Processes of local, jobs of slurm. [default: one per GPU, or per share of --threads]"),
    click.option("--worker", metavar="I/N",
        help="For rank: this machine's number and how many there are."),
    click.option("--submit", multiple=True, metavar="K=V",
        help="For slurm: a parameter of submitit, e.g. --submit slurm_partition=gpu --submit "
        "timeout_min=600."),
)  # fmt: skip
