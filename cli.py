"""Command line: parse, validate, build frozen configs, call. The only reader of arguments and default paths.

Commands of a single room stand in that room; here are those that need pipeline and purifier. Everything
heavy is imported inside the commands, so that `--help` answers at once.
"""

import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from impure.manifests.base.errors import InputError
from impure.manifests.commands.click_options import comma_separated, device_options, json_option
from impure.manifests.commands.console import (
    HELP,
    SHORTFALL,
    Command,
    CommandWithSections,
    Group,
    print_json,
    say,
    writable,
)
from impure.manifests.commands.inspect_commands import ls_command, status_command
from impure.manifests.commands.query_command import query_command
from impure.manifests.commands.transfer_commands import merge_command, pull_command, push_command
from impure.manifests.commands.yaml_options import options_as_yaml
from impure.pipeline.commands.command_list import COMMANDS as PIPELINE_COMMANDS
from impure.pipeline.commands.shared_options import BUILTIN
from impure.purifier.commands.model_command import model
from impure.purifier.commands.training_options import SECTIONS, check_together, train_config, train_options

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from impure.manifests.collection.collection import CommittedShard
    from impure.pipeline.sources.source import Source, SourceImage
    from impure.pipeline.targets.target import Target
    from impure.purifier.training.data_source import DataSource
    from impure.purifier.training.train_config import TrainConfig
    from impure.purifier.training.validation import Validator

__all__ = ["data", "evaluate", "model", "purify", "train"]


# Idle OpenMP threads sleep, not spin: beside another busy process spinning costs twenty times the time.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

partition_option = click.option(
    "--partition", type=click.Choice(["uniform", "random"]), default="uniform", show_default=True,
    help="How riae divides an image's patches (paper 5.3).",
)  # fmt: skip


@click.group("impure-data", cls=Group, context_settings=HELP)
@click.version_option(package_name="impure")
def data() -> None:
    """Make and keep collections of adversarial image pairs.

    \b
    The whole way, on built-in images that need no download:
      impure-data generate --attack pgd --eps 16
      impure-train --shards ./impure-data/builtin --epochs 1
    On ImageNet:
      impure-data generate --images /data/imagenet --target resnet101 --attack all --eps 16
    """


MANIFEST_COMMANDS = (status_command, ls_command, query_command, merge_command, pull_command, push_command)
for command in (*MANIFEST_COMMANDS, *PIPELINE_COMMANDS):
    data.add_command(command)


def open_device(name: str, threads: int | None, *, tiny: bool = False) -> "torch.device":
    """Resolve --device and --threads; by default all cores, or one for tiny networks."""
    from impure.pipeline import devices

    return devices.open_device(name, threads or (1 if tiny else devices.cores()))


def open_shards(shards: str, filters: dict[str, list[str]]) -> "list[CommittedShard]":
    """The shards that --shards names, here or far away."""
    from impure.manifests.sharing.cache import is_url
    from impure.manifests.sharing.open_collection import cache_folder, open_collection

    if is_url(shards):
        say(f"Shards are kept in {cache_folder(shards)} once they are read.")
    return open_collection(shards, **filters)


def name_of(shards: str, committed: "list[CommittedShard]") -> str:
    """What to call a collection in file names."""
    from impure.manifests.sharing.cache import parts_of

    return parts_of(shards)[0].rpartition("/")[2] if "://" in shards else committed[0].root.name


# --- impure-train ---


@click.command("impure-train", cls=CommandWithSections, sections=SECTIONS, context_settings=HELP)
@click.version_option(package_name="impure")
@train_options
def train(**given: Any) -> None:
    """Train the RIAE purifier on the shards of a collection.

    Writes config.json, run.yaml, log.csv, validation.csv, README.md, model.safetensors, best/ (the best
    weights by validation) and the state to go on from: killed at any moment, the same command continues, and
    on the CPU ends with the same weights.

    \b
      impure-train --shards ./impure-data/builtin --epochs 1
      torchrun --nproc-per-node 8 --no-python impure-train --shards ROOT --bf16 --compile
    """
    from impure.purifier.training.distributed import joined
    from impure.purifier.training.runtime_options import RuntimeOptions
    from impure.purifier.training.trainer import plan
    from impure.purifier.training.trainer import train as train_riae

    check_together(given)
    filters = {"splits": [given["split"]], "attacks": comma_separated(given["attacks"])}
    shards = [] if given["pretrain"] else open_shards(given["shards"], filters)
    name = model_for(shards, given)
    rank, world, local = torchrun()
    device = rank_device(given, tiny=name == "tiny", local=local)
    config = train_config(name, given)
    workers = workers_of(given, device)
    material = open_material(shards, config, workers, given)
    if given["dry_run"]:
        return None if rank else show_plan(plan(config, material, world), given["as_json"])
    features = open_features(config, given["feature_weights"])
    out = writable(given["out"] or Path("impure-runs") / run_name(shards, name, given))
    habits = RuntimeOptions(
        progress=True, workers=workers, validate_epochs=given["validate_epochs"],
        tensorboard=given["tensorboard"],
    )  # fmt: skip
    validator = open_validator(out, device, given) if shards and not rank else None
    with joined(rank, world, device) as ranks:
        train_riae(
            config, material, features, out, device,
            habits=habits, ranks=ranks, init=given["init"], validator=validator, options=options_as_yaml(),
        )  # fmt: skip
    return None if rank else print_run(out, config, shards, given)


def model_for(shards: "list[CommittedShard]", given: dict[str, Any]) -> str:
    """The preset that was asked for, or that suits the images."""
    if given["model"]:
        return str(given["model"])
    drawn = all(each.shard_id.target == BUILTIN for each in shards) if shards else given["images"] == BUILTIN
    model = "tiny" if drawn else "base"
    if not torchrun()[0]:
        say(f"Model: {model}" + (", for the built-in images; --model base is the paper's" if drawn else ""))
    return model


def torchrun() -> tuple[int, int, int]:
    """This process's number, how many there are, and its number on this machine."""
    rank, world, local = (os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    try:
        return int(rank or 0), int(world or 1), int(local or 0)
    except ValueError as error:
        raise InputError(
            f"RANK={rank} WORLD_SIZE={world} LOCAL_RANK={local}: no numbers; unset them"
        ) from error


def rank_device(given: dict[str, Any], *, tiny: bool, local: int) -> "torch.device":
    """The device of this process: under torchrun each takes its GPU, or its share of the CPU."""
    from impure.pipeline.devices import device_of

    device = open_device(given["device"], given["threads"] or (1 if tiny else share_of_cores()))
    return device_of(device, local)


def share_of_cores() -> int:
    """CPU cores for this process, of those that torchrun's processes on this machine share."""
    from impure.pipeline.devices import cores

    return max(cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1)


def workers_of(given: dict[str, Any], device: "torch.device") -> int:
    """Decoding processes: asked for, or this process's share of the cores beside a GPU."""
    if given["workers"] is not None or device.type == "cpu":
        return int(given["workers"] or 0)
    return min(max(share_of_cores() - 1, 1), 16)


def open_material(
    shards: "list[CommittedShard]", config: "TrainConfig", workers: int, given: dict[str, Any]
) -> "DataSource":
    """What is learnt from: pairs, or photographs."""
    from impure.pipeline.sources.open_source import open_source
    from impure.purifier.data.pair_reader import CACHE_BYTES
    from impure.purifier.training.data_source import PairSource, PhotoSource

    if not given["pretrain"]:
        cached = 0 if workers else CACHE_BYTES
        return PairSource(shards, clean_pairs=config.clean_pairs, cache_bytes=cached)
    source = open_source(given["images"], given["labels"])
    photos = source.images("train")
    return PhotoSource(partial(_picture, source, photos), [photo.source_id for photo in photos])


def _picture(source: "Source", photos: "Sequence[SourceImage]", index: int) -> "Image":
    """One photograph; a function of its own, for other processes."""
    from impure.purifier.data.photos import MOST_SIDE

    return source.load(photos[index], MOST_SIDE).picture


def open_validator(out: Path, device: "torch.device", given: dict[str, Any]) -> "Validator | None":
    """The validator that was asked for, or where none was, the one that can be had."""
    from impure.pipeline.targets.of_collection import class_names, classifiers_of
    from impure.purifier.evaluation.validation_table import FILE
    from impure.purifier.training.validation import Validator

    split = given["validate"] or "validation"
    if split == "none":
        return None
    try:
        shards = open_shards(given["shards"], {"splits": [split]})
        judges = classifiers_of(shards, given["targets"], given["weights"])
    except InputError as error:
        if given["validate"] or given["targets"] or given["weights"] or (out / FILE).exists():
            raise
        say(f"No validation: {error}")
        return None
    return Validator(
        shards, judges, out, images=given["validate_images"], batch_size=32, device=device,
        class_names=class_names(shards),
    )  # fmt: skip


def run_name(shards: "list[CommittedShard]", model: str, given: dict[str, Any]) -> str:
    """What a run is called where nobody said."""
    return f"{name_of(given['shards'], shards)}-{model}" if shards else f"pretrained-{model}"


def show_plan(found: dict[str, Any], as_json: bool) -> None:
    """What --dry-run says."""
    if as_json:
        return print_json(found)
    return click.echo("\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in found.items()))


def print_run(
    out: Path, config: "TrainConfig", committed: "list[CommittedShard]", given: dict[str, Any]
) -> None:
    """Where the run is, and what to do with it."""
    if given["as_json"]:
        return print_json({"out": str(out), "config": asdict(config)})
    click.echo(f"Run: {out}")
    if not committed:
        return click.echo(f"Next: impure-train --shards ROOT --init {shlex.quote(str(out))}")
    shards = given["shards"] if "://" in given["shards"] else str(committed[0].root)
    best = out / "best" if (out / "best").exists() else out
    names = " ".join(map(shlex.quote, ("--shards", shards, "--checkpoint", str(best))))
    return click.echo(f"Next: impure-eval {names}")


def open_features(config: "TrainConfig", weights: Path | None) -> "Target | None":
    """The feature network of the loss; None for a recipe without one.

    Raises:
        InputError: It cannot be had, or has no such nodes: to be known before the run's folder is begun.
    """
    from impure.pipeline.targets.load import load_target
    from impure.purifier.losses.feature_network import find_node

    if not config.loss.network:
        return None
    features = load_target(config.loss.network, weights, option="--feature-weights")
    for node in config.loss.lambdas:
        find_node(features, node)
    return features


# --- impure-eval, impure-purify ---


@click.command("impure-eval", cls=Command, context_settings=HELP)
@click.version_option(package_name="impure")
@click.option("--shards", required=True, help="A collection's folder or URL (https://, s3://, …), or a glob "
    "of its tars: 'ROOT/resnet101/*/train/*.tar'.",
)  # fmt: skip
@click.option("--checkpoint", type=click.Path(path_type=Path),
    help="For riae: run folder, model.safetensors, or owner/name[@revision] on the Hugging Face Hub.",
)  # fmt: skip
@click.option("--defence", "defences", default="none,jpeg,riae", show_default=True,
    help="What to compare, with commas: none, jpeg, riae.",
)  # fmt: skip
@click.option("--split", default="test", show_default=True, help="Split to evaluate on.")
@click.option("--attacks", help="Only these attacks, e.g. fgsm,pgd. [default: all there are]")
@click.option("--limit", type=click.IntRange(min=1),
    help="At most this many images of each target and attack, for a quick look. [default: all]",
)  # fmt: skip
@click.option("--samples", type=click.IntRange(min=1), default=1, show_default=True,
    help="Runs of random defences on each image.",
)  # fmt: skip
@click.option("--combine", type=click.Choice(["average", "vote", "worst"]), default="average",
    show_default=True, help="Several samples: judge the mean image, take the majority, or count an image only "
    "if every draw is right.",
)  # fmt: skip
@partition_option
@click.option("--extra-resize", is_flag=True,
    help="Also judge behind the resizing of the authors' test script, as NAME+resize.",
)  # fmt: skip
@click.option("--target", "targets", multiple=True,
    help="card.json or timm:NAME of the target that made the shards, where its name is none of resnet101, "
    "inception_v3, inception_resnet_v2 and builtin.",
)  # fmt: skip
@click.option("--weights", type=click.Path(path_type=Path), help="Weights of that target.")
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Images at once."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of random defences.")
@device_options
@click.option("--out", type=click.Path(path_type=Path),
    help="Report folder. [default: CHECKPOINT/report, or ./impure-report where CHECKPOINT is not here]",
)  # fmt: skip
@json_option
def evaluate(**given: Any) -> None:
    """Measure defences: accuracy on clean and attacked images, with 95 % intervals (the paper's Table 1).

    Judges the stored bytes, and writes the table as Markdown, CSV, JSON and a self-contained HTML page.

    \b
      impure-eval --shards ./impure-data/builtin --checkpoint ./impure-runs/builtin-tiny
      impure-eval --shards ROOT --checkpoint lab/purifier@main --samples 5 --combine worst --limit 500
    """
    from impure.pipeline.targets.of_collection import class_names, classifiers_of, describe_images
    from impure.purifier.checkpoints.checkpoint import load_riae
    from impure.purifier.defences.defence_registry import build_defences
    from impure.purifier.evaluation.measure import EvaluateConfig
    from impure.purifier.evaluation.measure import evaluate as measure
    from impure.purifier.evaluation.report import as_document, table, write_report

    filters = {"splits": [given["split"]], "attacks": comma_separated(given["attacks"])}
    shards = open_shards(given["shards"], filters)
    riae = None if given["checkpoint"] is None else load_riae(given["checkpoint"])
    defences = build_defences(comma_separated(given["defences"]), riae, partition=given["partition"])
    out = writable(given["out"] or _beside(given["checkpoint"]))
    tiny = all(each.shard_id.target == BUILTIN for each in shards)
    device = open_device(given["device"], given["threads"], tiny=tiny)
    judges = classifiers_of(shards, given["targets"], given["weights"])
    asked = ("batch_size", "seed", "samples", "combine", "extra_resize", "limit")
    config = EvaluateConfig(**{name: given[name] for name in asked})
    found = measure(shards, judges, defences, config, device=device, progress=True)
    images = describe_images(shards)
    paths = write_report(found, out, images=images, classes=class_names(shards))
    if given["as_json"]:
        return print_json(as_document(found, images))
    click.echo(f"{table(found)}\n\nTop-1 accuracy in %, Wilson 95 % interval; {images}.")
    return click.echo("Report: " + " ".join(str(path) for path in paths))


def _beside(checkpoint: Path | None) -> Path:
    """Where a report goes by default: into the run's folder, where there is one."""
    if checkpoint is None or not checkpoint.exists():
        return Path("impure-report")
    return (checkpoint if checkpoint.is_dir() else checkpoint.parent) / "report"


@click.command("impure-purify", cls=Command, context_settings=HELP)
@click.version_option(package_name="impure")
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("destination", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--checkpoint", required=True, type=click.Path(path_type=Path),
    help="Run folder, model.safetensors, or owner/name[@revision] on the Hugging Face Hub.",
)  # fmt: skip
@click.option(
    "--samples", type=click.IntRange(min=1), default=1, show_default=True, help="Purifications averaged."
)
@partition_option
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the purifier's noise."
)
@device_options
@json_option
def purify(**given: Any) -> None:
    """Purify one image, or every image below a folder, into PNG files.

    Images that cannot be read are named and skipped (exit code 3).
    """
    from impure.purifier.checkpoints.checkpoint import load_riae
    from impure.purifier.defences.purify_files import purify_path

    riae = load_riae(given["checkpoint"])
    device = open_device(given["device"], given["threads"])
    asked = {name: given[name] for name in ("seed", "samples", "partition")}
    done = purify_path(given["source"], given["destination"], riae, device, progress=True, **asked)
    for _, reason in done.skipped:
        say(f"skipped {reason}")
    if given["as_json"]:
        print_json(asdict(done))
    else:
        click.echo(f"{done.written} purified, {len(done.skipped)} skipped: {given['destination']}")
    raise SystemExit(SHORTFALL if done.skipped else 0)
