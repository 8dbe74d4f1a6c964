"""Command line: parse, validate, build frozen configs, call. The only reader of arguments and default paths.

Everything heavy is imported inside the commands, so that `--help` answers at once.
"""

import hashlib
import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import click

from impure.manifests.commands import COMMANDS, listed
from impure.manifests.console import (
    HELP,
    SHORTFALL,
    Command,
    Group,
    json_option,
    options,
    print_json,
    progress,
    root_argument,
    say,
)  # fmt: skip
from impure.manifests.errors import InputError

if TYPE_CHECKING:
    import torch

    from impure.manifests.collection import Collection, Committed, Unit
    from impure.manifests.verify import Finding
    from impure.pipeline.attacks import AttackConfig
    from impure.pipeline.collect import Collector, Order, Place
    from impure.pipeline.events import Made
    from impure.pipeline.executors.ledger import Ledger
    from impure.pipeline.plans import Plan, SampleConfig
    from impure.pipeline.targets import Target
    from impure.purifier.runs import TrainConfig

BUILTIN, CLEAN = "builtin", "clean"
NINE = ("fgsm", "pgd", "mifgsm", "difgsm", "mdifgsm", "apgd-ce", "apgd-dlr", "cw", "deepfool")
MORE = ("apgd-t", "fab-t", "square", "autoattack")
PER_CLASS = {"train": 10, "val": 5}  # the paper's (section 4.1)
AUTO = "auto"

# Idle OpenMP threads sleep, not spin: beside another busy process spinning costs twenty times the time.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# --- options that commands share ---


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


device_options = options(
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps."),
    click.option(
        "--threads",
        type=click.IntRange(min=1),
        help="CPU threads. [default: all cores; 1 for the built-in, tiny networks]",
    ),
)
shards_option = click.option(
    "--shards",
    required=True,
    help="A collection's folder or URL (https://, s3://, …), or a glob of its tars: "
    "'ROOT/resnet101/*/train/*.tar'.",
)
target_options = options(
    click.option(
        "--target",
        help="resnet101, inception_v3, inception_resnet_v2, torchvision:NAME, timm:NAME, or a card.json. "
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


# --- impure-data ---


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


for command in COMMANDS:
    data.add_command(command)


def find_place(given: dict[str, Any]) -> "Place":
    """Where the images, the target and the collection are, as the shared options say."""
    from impure.pipeline.collect import Place
    from impure.pipeline.sources import open_source

    if given["images"] == BUILTIN:
        say("Images: the built-in dataset (ten drawn classes, no photographs); see --images for ImageNet.")
    if given["split"] == "all" and given["images"].endswith(".tar"):
        raise InputError("tars hold one of ImageNet's splits: say which with --split train or --split val")
    name = given["target"] or (BUILTIN if given["images"] == BUILTIN else None)
    if name is None:
        raise InputError(
            "--images needs a --target: resnet101, inception_v3, inception_resnet_v2 or a card.json"
        )
    source = open_source(given["images"], given["labels"])
    root = writable(given["out"] or Path("impure-data") / source.name)
    return Place(
        images=given["images"] if given["images"] == BUILTIN else os.path.abspath(given["images"]),
        labels=_absolute(given["labels"]), weights=_absolute(given["weights"]), root=root.absolute(),
        target=os.path.abspath(name) if name.endswith(".json") else name,
        device=given["device"], threads=threads_for(root, name, given),
    )  # fmt: skip


def _absolute(path: Path | None) -> Path | None:
    """For workers that run elsewhere."""
    return path and path.absolute()


def threads_for(root: Path, target: str, given: dict[str, Any]) -> int:
    """CPU threads of one worker.

    Raises:
        InputError: The collection was begun with another number, and pixels would be rounded differently.
    """
    wanted = default_threads(root, target, given.get("workers"))
    if given["threads"] in (None, wanted) or not any((root / "plans").glob("*.parquet")):
        return int(given["threads"] or wanted)
    raise InputError(f"{root}: begun with --threads {wanted}: leave --threads away, or choose another --out")


def default_threads(root: Path, target: str, workers: int | None) -> int:
    """As the collection was begun, for the same rounding; else the cores, shared by the workers."""
    from impure.manifests.collection import Collection
    from impure.pipeline.devices import cores
    from impure.pipeline.plans import begun_with

    if begun := begun_with(Collection(root)):
        return int(begun["threads"])
    # Tiny networks lose more by waking threads than they gain.
    return 1 if target == BUILTIN else max(cores() // (workers or 1), 1)


def sample_configs(given: dict[str, Any], collector: "Collector", threads: int) -> "list[SampleConfig]":
    """What to sample from each of ImageNet's splits."""
    from impure.pipeline.batches import fitting_batch_size
    from impure.pipeline.plans import SampleConfig, begun_with

    size = given["batch_size"]
    if size == AUTO:
        begun = begun_with(collector.collection, collector.target.card.name)
        size = begun["batch_size"] if begun else fitting_batch_size(collector.target)
    return [
        SampleConfig(
            split=split, per_class=given["per_class"] or PER_CLASS[split], seed=given["seed"],
            shard_size=given["shard_size"], batch_size=int(size), threads=threads,
        )
        for split in (PER_CLASS if given["split"] == "all" else (given["split"],))
    ]  # fmt: skip


def writable(folder: Path) -> Path:
    """Make a folder and try to write there, before hours of work rely on it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from error


def open_device(name: str, threads: int | None, *, tiny: bool = False) -> "torch.device":
    """Resolve --device and --threads; by default all cores, or one for tiny networks."""
    from impure.pipeline import devices

    return devices.open_device(name, threads or (1 if tiny else devices.cores()))


@data.command("sample")
@sample_options
def sample_command(**given: Any) -> None:
    """Choose images: seeded, so many of each class, only those that the target classifies correctly.

    Writes frozen plans (Parquet) that `generate` follows; the same command finds them again.
    """
    from impure.pipeline.collect import open_collector

    place = find_place(given)
    collector = open_collector(place)
    plans = draw_plans(collector, sample_configs(given, collector, place.threads), given["allow_short"])
    counts = {plan.split: plan.counts() for plan in plans}
    if given["as_json"]:
        print_json({"out": str(collector.collection.root), "plans": counts})
    else:
        print_plans(counts)
        click.echo(f"Plans: {collector.collection.root / 'plans'}")
    exit_on_shortfall(plans, [], {})


def draw_plans(collector: "Collector", samples: "list[SampleConfig]", allow_short: bool) -> "list[Plan]":
    """Sample with a bar."""
    with progress(collector.wanted(samples), " sampled") as advance:
        return collector.draw(samples, allow_short=allow_short, advance=advance)


def print_plans(counts: dict[str, dict[str, int]]) -> None:
    """Accounting of sampling as a table."""
    from impure.manifests.tables import markdown_table

    header = ["split", "asked", "sampled", "short", "misclassified", "unreadable"]
    click.echo(
        markdown_table(
            header, [[split, *(row[name] for name in header[1:])] for split, row in counts.items()]
        )
    )


def exit_on_shortfall(plans: "Sequence[Plan]", made: "Sequence[Made]", failed: dict[Any, str]) -> None:
    """Leave with code 3 if anything that was asked for is not there."""
    short = any(plan.counts()["short"] for plan in plans)
    if short or failed or any(each.counts["failed"] for each in made):
        say("Finished with less than was asked for; see above.")
        raise SystemExit(SHORTFALL)


@data.command("generate", cls=Sweep)
@click.option(
    "--attack", required=True, metavar="NAME[,NAME…]|all",
    help=f"{', '.join(NINE)}; clean stores untouched pairs; all is clean and the nine. Beyond the paper: "
    f"{', '.join(MORE)}.",
)  # fmt: skip
@click.option("--eps", type=int, multiple=True, default=(16,), metavar="N …",
    help="L∞ budget in units of 1/255; several make a sweep: --eps 4 8 16. [default: 16]",
)  # fmt: skip
@click.option("--targeted", type=click.Choice(["random", "least-likely"]),
    help="Steer to one class, chosen for each image. [default: any but the true one]",
)  # fmt: skip
@click.option("--preset", type=click.Choice(["paper", "library"]), default="paper", show_default=True,
    help="Parameters: the paper's, or Torchattacks' defaults.",
)  # fmt: skip
@click.option("--set", "overrides", multiple=True, metavar="K=V", help="One parameter, e.g. --set steps=20.")
@click.option(
    "--implementation", type=click.Choice(["impure", "torchattacks", "cleverhans"]), default="impure",
    show_default=True, help="The libraries need `pip install 'impure[references]'`.",
)  # fmt: skip
@click.option("--restarts", type=click.IntRange(min=1), default=1, show_default=True,
    help="Runs from fresh draws, each on the images that withstood those before.",
)  # fmt: skip
@click.option("--precision", type=click.Choice(["fp32", "tf32", "bf16"]), default="fp32", show_default=True,
    help="Of the attack; the verdict is always fp32.",
)  # fmt: skip
@click.option("--compile", "compiled", is_flag=True, help="Attack through the target compiled by PyTorch.")
@storage_options
@click.option("--profile", type=click.Choice(["pairs", "delta"]), default="pairs", show_default=True,
    help="delta stores perturbations alone, to be handed on without ImageNet's images: see rebuild.",
)  # fmt: skip
@click.option("--executor", type=click.Choice(["inline", "local", "rank", "ray", "slurm"]), default="inline",
    show_default=True, help="Who works: this process; one process per GPU or share of the CPU; one of "
    "several machines (--worker, a Slurm array, torchrun); a Ray cluster; Slurm jobs.",
)  # fmt: skip
@click.option("--workers", type=click.IntRange(min=1),
    help="Processes of local, jobs of slurm. [default: one per GPU, or per share of --threads]",
)  # fmt: skip
@click.option("--worker", metavar="I/N", help="For rank: this machine's number and how many there are.")
@click.option("--submit", multiple=True, metavar="K=V",
    help="For slurm: a parameter of submitit, e.g. --submit slurm_partition=gpu --submit timeout_min=600.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Sample, say what would be made and how long it takes, stop.")
@sample_options
def generate_command(**given: Any) -> None:
    """Attack images and store the pairs in WebDataset shards with Parquet manifests.

    Samples first where there is no plan. Killed at any moment, the same command goes on where it was.

    \b
      impure-data generate --attack pgd --eps 16
      impure-data generate --attack all --images /data/imagenet --target resnet101 --split train
      impure-data generate --attack pgd --eps 4 8 16 --restarts 5
      impure-data generate --attack pgd --set early_stop=true --targeted least-likely
    """
    from impure.pipeline.attacks import check_precision
    from impure.pipeline.collect import open_collector
    from impure.pipeline.executors import Crew, Run, execute

    options = {name: given[name] for name in ("executor", "workers", "worker", "submit")}
    crew = Crew(**options, logs=cache_home() / "slurm")
    place = find_place(given)
    # Under torchrun a rank is one of several on its machine, and takes the GPU of its number there.
    collector = open_collector(place, int(os.environ.get("LOCAL_RANK", 0)) if crew.executor == "rank" else 0)
    check_precision(given["precision"], collector.target.mean.device)
    samples = sample_configs(given, collector, place.threads)
    order = order_of(given, samples)
    plans = draw_plans(collector, samples, given["allow_short"])
    if given["batch_size"] == AUTO:  # another process may have been the one that drew the plans
        order = replace(order, batch_size=int(plans[0].config["batch_size"]))
    if given["dry_run"]:
        return print_dry_run(collector, order, given["as_json"])
    ledger, view = execute(Run(place, order, collector, crew))
    counts, root = {plan.split: plan.counts() for plan in plans}, collector.collection.root
    if given["as_json"]:
        failed = {str(unit): reason for unit, reason in ledger.failed.items()}
        print_json(
            {
                "out": str(root),
                "plans": counts,
                "attacks": totals(ledger),
                "failed": failed,
                "units": len(ledger.made),
                "resumed": sum(made.resumed for made in ledger.made.values()),
                "busy": view.busy(),
                "limited_by": view.limit(),
            }
        )
    else:
        print_plans(counts)
        print_results(root, ledger)
    return exit_on_shortfall(plans, list(ledger.made.values()), ledger.failed)


def order_of(given: dict[str, Any], samples: "Sequence[SampleConfig]") -> "Order":
    """What the options of generate ask for."""
    from impure.manifests.storage import MAX_CHANGE, Storage
    from impure.pipeline.collect import Order
    from impure.pipeline.jobs import new_run_id
    from impure.pipeline.plans import SPLITS_OF

    if given["clean"] == "once" and given["profile"] == "delta":
        raise InputError("--profile delta stores no clean images: leave --clean away")
    profile = "clean-once" if given["clean"] == "once" else given["profile"]
    if profile == "delta" and max(given["eps"]) > MAX_CHANGE:
        raise InputError(f"--profile delta holds changes of at most {MAX_CHANGE}/255: lower --eps")
    attacks = attack_configs(given)
    if profile == "clean-once" and None not in attacks:
        attacks = [None, *attacks]
    return Order(
        attacks=tuple(attacks), seed=given["seed"], batch_size=samples[0].batch_size,
        splits=tuple(split for config in samples for split in SPLITS_OF[config.split]),
        compiled=given["compiled"], storage=Storage(encoding=given["encoding"], profile=profile),
        run_id=new_run_id(),
    )  # fmt: skip


def attack_configs(given: dict[str, Any]) -> "list[AttackConfig | None]":
    """The attacks that were asked for; None stands for the untouched pairs."""
    from impure.pipeline.attacks import AttackConfig, parse_override

    asked = listed(given["attack"])
    known = (*NINE, *MORE, CLEAN, "all")
    wrong = [name for name in asked if name not in known]
    if wrong or not asked:
        named = repr(wrong[0]) if wrong else "''"
        raise InputError(f"unknown attack {named}; choose from {', '.join(known)}")
    names = list(
        dict.fromkeys(each for name in asked for each in ((CLEAN, *NINE) if name == "all" else (name,)))
    )
    overrides = tuple(parse_override(text) for text in given["overrides"])
    attacked = [
        AttackConfig(
            name=name, eps_255=eps, preset=given["preset"], implementation=given["implementation"],
            overrides=overrides, targeted=given["targeted"], restarts=given["restarts"],
            precision=given["precision"],
        )
        for name in names if name != CLEAN for eps in dict.fromkeys(given["eps"])
    ]  # fmt: skip
    return [None, *attacked] if CLEAN in names else [*attacked]


def totals(ledger: "Ledger") -> dict[str, dict[str, int]]:
    """Counts by attack, in the order in which they were asked for."""
    from impure.manifests.status import add_up

    counts: dict[str, list[dict[str, int]]] = {name: [] for name in ledger.attacks}
    for unit, made in ledger.made.items():
        counts[unit.attack].append(made.counts)
    return {name: add_up(each) for name, each in counts.items() if each}


def print_dry_run(collector: "Collector", order: "Order", as_json: bool) -> None:
    """Say what a run would make, and how long it would take."""
    from impure.pipeline.forecast import forecast

    planned = {"out": str(collector.collection.root), **forecast(collector, order)}
    if as_json:
        return print_json(planned)
    shown = {name: f"{value:.9f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
        for name, value in planned.items()}  # fmt: skip
    return click.echo(", ".join(f"{name} {value}" for name, value in shown.items()))


def print_results(root: Path, ledger: "Ledger") -> None:
    """What was made, by attack, and what to type next."""
    from impure.manifests.status import percent
    from impure.manifests.tables import markdown_table

    rows = [
        [name, *(each[column] for column in ("planned", "stored", "failed", "succeeded")), percent(each)]
        for name, each in totals(ledger).items()
    ]
    click.echo("\n" + markdown_table(["attack", "planned", "stored", "failed", "fooled", "fooled %"], rows))
    resumed = sum(made.resumed for made in ledger.made.values())
    click.echo(f"\n{len(ledger.made)} units, {resumed} of them there already. Collection: {root}")
    for unit, reason in ledger.failed.items():
        click.echo(f"{unit} failed three times: {reason}")
    click.echo(f"Next: impure-data preview {shlex.quote(str(root))}")
    click.echo(f"      impure-train --shards {shlex.quote(str(root))}")


@data.command("verify")
@root_argument
@click.option("--level", type=click.Choice(["size", "hash", "decode", "replay"]), default="decode",
    show_default=True, help="Each includes those before it. decode compares every pixel's hash, norm and "
    "count; replay asks the target again, for some samples of each unit.",
)  # fmt: skip
@click.option("--samples", type=click.IntRange(min=1), default=8, show_default=True,
    help="For replay: of each unit.",
)  # fmt: skip
@click.option("--again", is_flag=True,
    help="For replay: attack each unit's first batch again; the same device, threads and versions must give "
    "the same pixels.",
)  # fmt: skip
@click.option("--repair", "mend", is_flag=True, help="Make the bad units again, and no others.")
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
    from impure.manifests.collection import Collection

    root, units = given["root"], Collection(given["root"]).marked()
    if not units and not Collection(root).missing():
        raise InputError(f"{root}: no committed shard there")
    found = check(given)
    left = mend(found, given) if given["mend"] and found else found
    if given["as_json"]:
        documents = {"bad": [asdict(each) for each in found], "left": [asdict(each) for each in left]}
        print_json({"root": str(root), "level": given["level"], "units": len(units), **documents})
    else:
        for each in found:
            click.echo(f"{each.unit}: {each.problem}")
        click.echo(f"{len(units)} units checked at level {given['level']}: {len(found) or 'nothing'} wrong")
        if given["mend"]:
            click.echo(f"{len(found) - len(left)} mended, {len(left)} left")
        elif found:
            click.echo("To make the bad units again: the same command with --repair and the --images.")
    raise SystemExit(SHORTFALL if left else 0)


def check(given: dict[str, Any], replayed: "Sequence[Unit] | None" = None) -> "list[Finding]":
    """What is wrong at the level asked for; of these units alone the target is asked again."""
    from impure.manifests.collection import Collection
    from impure.manifests.verify import LEVELS, verify
    from impure.pipeline.repair import bad_units

    collection = Collection(given["root"])
    units = collection.marked()
    with progress(len(units), " units") as advance:
        found = verify(collection, given["level"] if given["level"] in LEVELS else LEVELS[-1], advance)
    if given["level"] == "replay":
        whole = set(units if replayed is None else replayed) - set(bad_units(found))
        found += replay(collection, sorted(whole), given)
    return found


def judges(
    collection: "Collection", units: "Sequence[Unit]", given: dict[str, Any], threads: int
) -> "dict[str, Target]":
    """The targets of some units, on the device; markers that were edited have no say in it."""
    from impure.manifests.config import digest
    from impure.pipeline.judges import judges_of

    device, names = open_device(given["device"], threads), {unit.target for unit in units}
    sound = [
        each for each in collection.readable()
        if each.unit.target in names and each.marker["config_digest"] == digest(each.marker["config"])
    ]  # fmt: skip
    found = judges_of(sound, given["targets"], given["weights"])
    return {name: target.to(device) for name, target in found.items()}


def replay(collection: "Collection", units: "Sequence[Unit]", given: dict[str, Any]) -> "list[Finding]":
    """Ask the targets again; see `pipeline.replay`."""
    from impure.manifests.verify import Finding
    from impure.pipeline.replay import attacked_again, replayed

    threads = given["threads"] or default_threads(collection.root, "", None)
    targets, found = judges(collection, units, given, threads), []
    with progress(len(units), " units replayed") as advance:
        for unit in units:
            each, target = collection.read(unit), targets[unit.target]
            problem = next(replayed(each, target, given["samples"]), None)
            if problem is None and given["again"]:
                problem = attacked_again(each, target)
            found += [] if problem is None else [Finding(str(unit), problem)]
            advance(1)
    return found


def mend(found: "list[Finding]", given: dict[str, Any]) -> "list[Finding]":
    """Make the bad units again and check them again; returns what is still wrong."""
    from impure.manifests.collection import Collection
    from impure.pipeline.devices import cores
    from impure.pipeline.live import LiveView
    from impure.pipeline.repair import repair, units_to_make
    from impure.pipeline.sources import open_source

    collection, source = Collection(given["root"]), open_source(given["images"], given["labels"])
    units = units_to_make(collection, found)
    targets = judges(collection, units, given, given["threads"] or 1)
    with LiveView(None, len(units), 1, cores()) as view:
        failed = repair(collection, units, source, targets, view)
    for unit, reason in failed.items():
        say(f"{unit}: {reason}")
    return check(given, units)


@data.command("card")
@root_argument
@json_option
def card_command(root: Path, as_json: bool) -> None:
    """Write what makes a collection a data set to share.

    README.md (success rates, contact sheet, how to read it), croissant.json, SHA256SUMS, shard indices.
    Run it again after every change.
    """
    from impure.manifests.card import write_card
    from impure.manifests.collection import Collection, select
    from impure.pipeline.judges import class_names

    units = select(str(root))
    with progress(2 * len(units), " files") as advance:
        paths = write_card(Collection(root), class_names(units), progress=advance)
    if as_json:
        return print_json({"root": str(root), "files": [str(path) for path in paths]})
    return click.echo("\n".join(map(str, paths)))


@data.command("rebuild")
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
    from impure.manifests.collection import Collection
    from impure.manifests.storage import Storage
    from impure.pipeline.rebuild import rebuild
    from impure.pipeline.shards import rewriting
    from impure.pipeline.sources import open_source

    collection, source = Collection(given["root"]), open_source(given["images"], given["labels"])
    root = collection.root
    out = Collection(writable(given["out"] or root.with_name(f"{root.name}-pairs")))
    profile = "clean-once" if given["clean"] == "once" else "pairs"
    storage = Storage(encoding=given["encoding"], profile=profile)
    images = sum(each.marker["counts"]["planned"] for each in collection.committed)
    with progress(images, " images") as advance:
        write = rewriting(collection, out, storage)
        found = list(rebuild(collection, source, out, storage, write, advance))
    lost = {str(each.unit): each.lost for each in found if each.lost}
    if given["as_json"]:
        print_json({"out": str(out.root), "stored": sum(each.stored for each in found), "lost": lost})
    else:
        for unit, reasons in lost.items():
            source_id, reason = next(iter(reasons.items()))
            click.echo(f"{unit}: {len(reasons)} lost, the first {source_id}: {reason}")
        click.echo(f"{sum(each.stored for each in found)} pairs in {len(found)} units: {out.root}")
    raise SystemExit(SHORTFALL if lost else 0)


@data.command("preview")
@root_argument
@click.option(
    "--per-attack", type=click.IntRange(1, 16), default=4, show_default=True, help="Pairs in a row."
)
@click.option("--out", type=click.Path(path_type=Path), help="PNG file. [default: ROOT/preview.png]")
def preview_command(root: Path, per_attack: int, out: Path | None) -> None:
    """Draw a contact sheet: clean, adversarial, perturbation ×8, predictions."""
    from impure.manifests.collection import select
    from impure.manifests.preview import contact_sheet
    from impure.manifests.store import atomic_path
    from impure.pipeline.judges import class_names

    units = select(str(root))
    sheet = contact_sheet(units, per_attack, class_names(units))
    path = out or root / "preview.png"
    with atomic_path(path) as temporary:
        sheet.save(temporary, "PNG")
    click.echo(str(path))


# --- impure-train, impure-eval, impure-purify ---


@click.command("impure-train", cls=Command, context_settings=HELP)
@shards_option
@click.option("--split", default="train", show_default=True, help="Split to train on.")
@click.option("--attacks", help="Only these attacks, e.g. fgsm,pgd,mifgsm. [default: all there are]")
@click.option(
    "--model",
    help="base (the paper's, 115.8 M parameters), small, tiny. [default: tiny on built-in images, else base]",
)
@click.option(
    "--mask", type=click.Choice(["occlusion", "image-noise", "feature-noise", "both"]), default="both",
    show_default=True, help="How a subset is masked (paper 5.1).",
)  # fmt: skip
@click.option(
    "--recipe", type=click.Choice(["code", "paper", "pixel"]),
    help="Loss: the authors' code, the paper's text, or pixels alone. [default: code; tiny: pixel]",
)  # fmt: skip
@click.option("--features", help="Feature network of the loss, as a --target. [default: the recipe's VGG19]")
@click.option(
    "--feature-node", "feature_nodes", multiple=True, metavar="NODE=WEIGHT",
    help="Layer of it and its weight in the loss, e.g. layer4=10; again for more. [default: the recipe's]",
)  # fmt: skip
@click.option("--feature-weights", type=click.Path(path_type=Path), help="Its weights file.")
@click.option("--epochs", type=click.IntRange(min=1), help="[default: base 100]")
@click.option("--batch-size", type=click.IntRange(min=1), help="Images a step. [default: base 64]")
@click.option("--lr", type=float, help="Peak learning rate. [default: base 1e-4]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of every draw.")
@click.option("--bf16", is_flag=True, help="Autocast to bfloat16.")
@click.option(
    "--workers", type=click.IntRange(min=0), default=0, show_default=True, help="Decoding processes."
)
@device_options
@click.option(
    "--out", type=click.Path(path_type=Path), help="Run folder. [default: ./impure-runs/NAME-MODEL]"
)
@json_option
def train(**given: Any) -> None:
    """Train the RIAE purifier on the shards of a collection.

    Writes config.json, log.csv, model.safetensors and the state to go on from: killed at any moment, the same
    command continues, and on the CPU ends with the same weights.

    \b
      impure-train --shards ./impure-data/builtin --epochs 1
    """
    from impure.purifier.train import train as train_riae

    units = open_shards(given["shards"], splits=[given["split"]], attacks=listed(given["attacks"]))
    drawn = all(each.unit.target == BUILTIN for each in units)
    model = given["model"] or ("tiny" if drawn else "base")
    if given["model"] is None:
        say(f"Model: {model}" + (", for the built-in images; --model base is the paper's" if drawn else ""))
    device = open_device(given["device"], given["threads"], tiny=model == "tiny")
    config = train_config(model, given)
    features = open_features(config, given["feature_weights"])
    out = writable(given["out"] or Path("impure-runs") / f"{name_of(given['shards'], units)}-{model}")
    train_riae(config, units, features, out, device, progress=True, workers=given["workers"])
    if given["as_json"]:
        return print_json({"out": str(out), "config": asdict(config)})
    click.echo(f"Run: {out}")
    shards = given["shards"] if "://" in given["shards"] else str(units[0].root)
    names = " ".join(map(shlex.quote, ("--shards", shards, "--checkpoint", str(out))))
    return click.echo(f"Next: impure-eval {names}")


def open_shards(shards: str, **filters: list[str]) -> "list[Committed]":
    """The units that --shards names, here or far away."""
    from impure.manifests.collection import select
    from impure.manifests.remote import is_url, parts_of
    from impure.manifests.remote import open_shards as open_remote

    if not is_url(shards):
        return select(shards, **filters)
    cache = cache_home() / hashlib.sha256(parts_of(shards)[0].encode()).hexdigest()[:16]
    say(f"Shards are kept in {cache} once they are read.")
    return open_remote(shards, writable(cache), **filters)


def cache_home() -> Path:
    """Where what can be had again is kept."""
    return Path(os.environ.get("IMPURE_CACHE") or Path.home() / ".cache" / "impure").absolute()


def name_of(shards: str, units: "list[Committed]") -> str:
    """What to call a collection in file names."""
    from impure.manifests.remote import parts_of

    return parts_of(shards)[0].rpartition("/")[2] if "://" in shards else units[0].root.name


TRAIN_OPTIONS = ("epochs", "batch_size", "seed", "mask", "recipe", "bf16")


def train_config(model: str, given: dict[str, Any]) -> "TrainConfig":
    """The training that suits the model, with what the user set."""
    from impure.purifier.runs import TrainConfig

    values = {name: given[name] for name in TRAIN_OPTIONS if given[name] is not None}
    values |= {} if given["lr"] is None else {"learning_rate": given["lr"]}
    values |= {} if given["features"] is None else {"feature_network": given["features"]}
    if given["feature_nodes"]:
        values["nodes"], values["lambdas"] = zip(*map(_weighed, given["feature_nodes"]), strict=True)
    return TrainConfig.for_preset(model, **values)


def _weighed(text: str) -> tuple[str, float]:
    """NODE=WEIGHT as a name and a number."""
    node, _, weight = text.rpartition("=")
    try:
        return node, float(weight)
    except ValueError as error:
        raise InputError(f"--feature-node {text!r}: write NODE=WEIGHT, such as layer4=10") from error


def open_features(config: "TrainConfig", weights: Path | None) -> "Target | None":
    """The feature network of the loss; None for a recipe without one."""
    from impure.pipeline.targets import load_target

    return (
        load_target(config.loss.network, weights, option="--feature-weights") if config.loss.network else None
    )


@click.command("impure-eval", cls=Command, context_settings=HELP)
@shards_option
@click.option(
    "--checkpoint", type=click.Path(path_type=Path), help="Run folder or model.safetensors, for riae."
)
@click.option("--defence", "defences", default="none,jpeg,riae", show_default=True, help="What to compare.")
@click.option("--split", default="test", show_default=True, help="Split to evaluate on.")
@click.option("--attacks", help="Only these attacks. [default: all there are]")
@click.option(
    "--target", "targets", multiple=True, help="Target of the shards, where its name is no known one."
)
@click.option("--weights", type=click.Path(path_type=Path), help="Weights of that target.")
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Images at once."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of random defences.")
@device_options
@click.option("--out", type=click.Path(path_type=Path), help="Report folder. [default: CHECKPOINT/report]")
@json_option
def evaluate(**given: Any) -> None:
    """Measure defences: accuracy on clean and attacked images, with 95 % intervals (the paper's Table 1).

    Judges the stored bytes, and writes the table as Markdown, CSV, JSON and a self-contained HTML page.

    \b
      impure-eval --shards ./impure-data/builtin --checkpoint ./impure-runs/builtin-tiny
    """
    from impure.pipeline.judges import class_names, describe_images, judges_of
    from impure.purifier.checkpoint import load_riae
    from impure.purifier.defences import build_defences
    from impure.purifier.evaluate import evaluate as measure
    from impure.purifier.report import as_document, table, write_report

    units = open_shards(given["shards"], splits=[given["split"]], attacks=listed(given["attacks"]))
    out = writable(given["out"] or _beside(given["checkpoint"]))
    tiny = all(each.unit.target == BUILTIN for each in units)
    device = open_device(given["device"], given["threads"], tiny=tiny)
    riae = None if given["checkpoint"] is None else load_riae(given["checkpoint"])
    judges = judges_of(units, given["targets"], given["weights"])
    found = measure(
        units, judges, build_defences(listed(given["defences"]), riae),
        batch_size=given["batch_size"], device=device, seed=given["seed"], progress=True,
    )  # fmt: skip
    images = describe_images(units)
    paths = write_report(found, out, images=images, classes=class_names(units))
    if given["as_json"]:
        return print_json(as_document(found, images))
    click.echo(f"{table(found)}\n\nTop-1 accuracy in %, Wilson 95 % interval; {images}.")
    return click.echo("Report: " + " ".join(str(path) for path in paths))


def _beside(checkpoint: Path | None) -> Path:
    """Where a report goes by default: into the run's folder, where there is one."""
    if checkpoint is None:
        return Path("impure-report")
    return (checkpoint if checkpoint.is_dir() else checkpoint.parent) / "report"


@click.command("impure-purify", cls=Command, context_settings=HELP)
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("destination", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--checkpoint", required=True, type=click.Path(path_type=Path), help="Run folder or model.safetensors."
)
@click.option(
    "--draws", type=click.IntRange(min=1), default=1, show_default=True, help="Purifications averaged."
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the purifier's noise."
)
@device_options
@json_option
def purify(**given: Any) -> None:
    """Purify one image, or every image below a folder, into PNG files.

    Images that cannot be read are named and skipped (exit code 3).
    """
    from impure.purifier.checkpoint import load_riae
    from impure.purifier.purify import purify_path

    riae = load_riae(given["checkpoint"])
    device = open_device(given["device"], given["threads"])
    done = purify_path(
        given["source"],
        given["destination"],
        riae,
        device,
        seed=given["seed"],
        draws=given["draws"],
        progress=True,
    )
    for _, reason in done.skipped:
        say(f"skipped {reason}")
    if given["as_json"]:
        print_json(asdict(done))
    else:
        click.echo(f"{done.written} purified, {len(done.skipped)} skipped: {given['destination']}")
    raise SystemExit(SHORTFALL if done.skipped else 0)
