"""Command line: parse, validate, build frozen configs, call. The only reader of arguments and default paths.

Everything heavy is imported inside the commands, so that `--help` answers at once.
"""

import errno
import json
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import click

from impure.manifests.errors import InputError, first_line

if TYPE_CHECKING:
    import torch

    from impure.pipeline.attacks import AttackConfig
    from impure.pipeline.collect import Collector
    from impure.pipeline.generate import UnitResult
    from impure.pipeline.plans import Plan
    from impure.pipeline.targets import Target
    from impure.purifier.runs import TrainConfig

BUILTIN, CLEAN = "builtin", "clean"
NINE = ("fgsm", "pgd", "mifgsm", "difgsm", "mdifgsm", "apgd-ce", "apgd-dlr", "cw", "deepfool")
MORE = ("apgd-t", "fab-t", "square", "autoattack")
PER_CLASS = {"train": 10, "val": 5}  # the paper's (section 4.1)
AUTO = "auto"
SHORTFALL = 3  # exit code: finished, but with less than was asked for, or with bad units

# Idle OpenMP threads sleep, not spin: beside another busy process spinning costs twenty times the time.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

HELP = {"help_option_names": ["-h", "--help"]}

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Command(click.Command):
    """A command whose foreseeable failures are one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it, turning what a user or a machine can cause into a message."""
        try:
            return super().invoke(ctx)
        except InputError as error:
            raise click.ClickException(str(error)) from error
        except BrokenPipeError:
            raise  # click ends quietly when the reader of a pipe has gone
        except OSError as error:
            raise click.ClickException(_os_error(error)) from error
        except (MemoryError, RuntimeError) as error:
            if not _is_foreseeable(error):
                raise
            raise click.ClickException(first_line(error) + _remedy(error)) from error


def _os_error(error: OSError) -> str:
    """One line for what the operating system refused."""
    place = f"{error.filename}: " if error.filename else ""
    full = "; make room, and the same command continues" if error.errno == errno.ENOSPC else ""
    return f"{place}{error.strerror or error}{full}"


def _is_foreseeable(error: BaseException) -> bool:
    """Out of memory, a broken disk: by name, so that torch need not be imported."""
    return type(error).__name__ in ("MemoryError", "OutOfMemoryError", "ReadBackError")


def _remedy(error: BaseException) -> str:
    """What helps against running out of memory."""
    return (
        "; out of memory, even with less at once: use another --device, or close what else uses it"
        if "Memory" in type(error).__name__
        else ""
    )


class Group(click.Group):
    """A group of such commands."""

    command_class = Command


def say(text: str) -> None:
    """A note for the person watching: standard error, so that --json stays clean."""
    click.echo(text, err=True)


def print_json(value: Any) -> None:
    """The one JSON document of a --json run, on standard output."""
    click.echo(json.dumps(value, indent=1, default=str))


@contextmanager
def progress(total: int, unit: str) -> Iterator[Callable[[int], object]]:
    """A bar with rate and time left on standard error; yields the function that advances it."""
    from tqdm import tqdm

    with tqdm(total=total, unit=unit, dynamic_ncols=True) as bar:
        yield bar.update


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


def options(*found: Decorator) -> Decorator:
    """Bundle options into one decorator, in the order in which --help shows them."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(found):
            function = option(function)
        return function

    return decorate


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on standard output."
)
root_argument = click.argument("root", type=click.Path(path_type=Path, exists=True, file_okay=False))
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
    help="A collection's folder, or a glob of its tars: 'ROOT/resnet101/*/train/*.tar'.",
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


def set_up(given: dict[str, Any]) -> "Collector":
    """Open source, target and collection as the shared options say."""
    from impure.manifests.collection import Collection
    from impure.pipeline.batches import choose_batch_size
    from impure.pipeline.collect import Collector
    from impure.pipeline.plans import SampleConfig
    from impure.pipeline.sources import open_source

    if given["images"] == BUILTIN:
        say("Images: the built-in dataset (ten drawn classes, no photographs); see --images for ImageNet.")
    if given["split"] == "all" and given["images"].endswith(".tar"):
        raise InputError("tars hold one of ImageNet's splits: say which with --split train or --split val")
    source = open_source(given["images"], given["labels"])
    root = writable(given["out"] or Path("impure-data") / source.name)
    collection, target = Collection(root), open_attacked(given)
    size = given["batch_size"]
    size = choose_batch_size(collection, target) if size == AUTO else size
    samples = [
        SampleConfig(
            split=split, per_class=given["per_class"] or PER_CLASS[split], seed=given["seed"],
            shard_size=given["shard_size"], batch_size=size,
        )
        for split in (PER_CLASS if given["split"] == "all" else (given["split"],))
    ]  # fmt: skip
    return Collector(collection, source, target, samples)


def writable(folder: Path) -> Path:
    """Make a folder and try to write there, before hours of work rely on it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from error


def open_attacked(given: dict[str, Any]) -> "Target":
    """Build the target to attack, on its device."""
    from impure.pipeline.targets import load_target

    name = given["target"] or (BUILTIN if given["images"] == BUILTIN else None)
    if name is None:
        raise InputError(
            "--images needs a --target: resnet101, inception_v3, inception_resnet_v2 or a card.json"
        )
    device = open_device(given["device"], given["threads"], tiny=name == BUILTIN)
    return load_target(name, given["weights"]).to(device)


def open_device(name: str, threads: int | None, *, tiny: bool = False) -> "torch.device":
    """Resolve --device, and set the number of CPU threads, on which float32 rounding depends.

    Tiny networks lose more by waking threads than they gain, so they get one.
    """
    import torch

    torch.set_num_threads(threads or (1 if tiny else os.cpu_count()) or 1)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name} cannot be used: {first_line(error)}") from error
    return torch.device(name)


@data.command("sample")
@sample_options
def sample_command(**given: Any) -> None:
    """Choose images: seeded, so many of each class, only those that the target classifies correctly.

    Writes frozen plans (Parquet) that `generate` follows; the same command finds them again.
    """
    collector = set_up(given)
    plans = draw_plans(collector, given["allow_short"])
    counts = {plan.split: plan.counts() for plan in plans}
    if given["as_json"]:
        print_json({"out": str(collector.collection.root), "plans": counts})
    else:
        print_plans(counts)
        click.echo(f"Plans: {collector.collection.root / 'plans'}")
    exit_on_shortfall(plans, [])


def draw_plans(collector: "Collector", allow_short: bool) -> "list[Plan]":
    """Sample with a bar."""
    with progress(collector.wanted(), " sampled") as advance:
        return collector.draw(allow_short=allow_short, advance=advance)


def print_plans(counts: dict[str, dict[str, int]]) -> None:
    """Accounting of sampling as a table."""
    from impure.manifests.tables import markdown_table

    header = ["split", "asked", "sampled", "short", "misclassified", "unreadable"]
    click.echo(
        markdown_table(
            header, [[split, *(row[name] for name in header[1:])] for split, row in counts.items()]
        )
    )


def exit_on_shortfall(plans: "Sequence[Plan]", results: "Sequence[UnitResult]") -> None:
    """Leave with code 3 if anything that was asked for is not there."""
    if any(plan.counts()["short"] for plan in plans) or any(result.counts["failed"] for result in results):
        say("Finished with less than was asked for; see the table above.")
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
@click.option("--dry-run", is_flag=True, help="Sample, say what would be made, and stop.")
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

    attacks = attack_configs(given)
    collector = set_up(given)
    check_precision(given["precision"], collector.target.mean.device)
    plans = draw_plans(collector, given["allow_short"])
    if given["dry_run"]:
        return print_dry_run(collector, plans, attacks, given["as_json"])
    with progress(sum(plan.table.num_rows for plan in plans) * len(attacks), " images") as advance:
        compiled = collector.target.compiled() if given["compiled"] else None
        results = collector.make(plans, attacks, given["seed"], advance, compiled)
    counts, root = {plan.split: plan.counts() for plan in plans}, collector.collection.root
    if given["as_json"]:
        print_json({"out": str(root), "plans": counts, "attacks": totals(results)})
    else:
        print_plans(counts)
        print_results(root, results)
    return exit_on_shortfall(plans, results)


def attack_configs(given: dict[str, Any]) -> "list[AttackConfig | None]":
    """The attacks that were asked for; None stands for the untouched pairs."""
    from impure.pipeline.attacks import AttackConfig, parse_override

    asked = _listed(given["attack"])
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


def totals(results: "Sequence[UnitResult]") -> dict[str, dict[str, int]]:
    """Counts by attack."""
    from impure.manifests.status import add_up

    names = dict.fromkeys(result.unit.attack for result in results)
    return {name: add_up([each.counts for each in results if each.unit.attack == name]) for name in names}


def print_dry_run(
    collector: "Collector", plans: "Sequence[Plan]", attacks: "Sequence[AttackConfig | None]", as_json: bool
) -> None:
    """Say what a run would make."""
    images = sum(plan.counts()["sampled"] for plan in plans)
    shards = sum(len(set(plan.table["shard"].to_pylist())) for plan in plans)
    raw = images * len(attacks) * 2 * 3 * collector.target.card.crop**2
    planned = {
        "out": str(collector.collection.root), "images": images, "attacks": len(attacks),
        "pairs": images * len(attacks), "units": shards * len(attacks), "gib_at_most": round(raw / 2**30, 3),
    }  # fmt: skip
    if as_json:
        return print_json(planned)
    return click.echo(", ".join(f"{name} {value}" for name, value in planned.items()))


def print_results(root: Path, results: "Sequence[UnitResult]") -> None:
    """What was made, by attack, and what to type next."""
    from impure.manifests.status import percent
    from impure.manifests.tables import markdown_table

    rows = [
        [name, *(each[column] for column in ("planned", "stored", "failed", "succeeded")), percent(each)]
        for name, each in totals(results).items()
    ]
    click.echo("\n" + markdown_table(["attack", "planned", "stored", "failed", "fooled", "fooled %"], rows))
    resumed = sum(result.resumed for result in results)
    click.echo(f"\n{len(results)} units, {resumed} of them there already. Collection: {root}")
    click.echo(f"Next: impure-data preview {shlex.quote(str(root))}")
    click.echo(f"      impure-train --shards {shlex.quote(str(root))}")


@data.command("status")
@root_argument
@json_option
def status_command(root: Path, as_json: bool) -> None:
    """Say how much of a collection is there: units, images, success rates, size."""
    from impure.manifests.collection import Collection
    from impure.manifests.status import status, status_table

    found = status(Collection(root))
    if not found["groups"] and not found["missing"] and not Collection(root).about_path.exists():
        raise InputError(f"{root}: no collection there")
    print_json(found) if as_json else click.echo(status_table(found))


@data.command("ls")
@root_argument
@json_option
def ls_command(root: Path, as_json: bool) -> None:
    """List the committed shards."""
    from impure.manifests.collection import Collection

    units = Collection(root).committed
    if as_json:
        return print_json([{"tar": str(each.tar), **each.marker} for each in units])
    for each in units:
        click.echo(
            f"{each.tar}  {each.marker['counts']['stored']} pairs  {each.marker['tar']['bytes']} bytes"
        )
    return None


@data.command("verify")
@root_argument
@click.option(
    "--level", type=click.Choice(["size", "hash", "decode"]), default="decode", show_default=True,
    help="Each includes those before it; decode compares every pixel's hash, norm and count.",
)  # fmt: skip
@json_option
def verify_command(root: Path, level: str, as_json: bool) -> None:
    """Check that a collection is what its manifests say. Exit code 3 where it is not."""
    from impure.manifests.collection import Collection
    from impure.manifests.verify import verify

    collection = Collection(root)
    units = collection.marked()
    if not units:
        raise InputError(f"{root}: no committed shard there")
    with progress(len(units), " units") as advance:
        found = verify(collection, level, advance)
    if as_json:
        print_json(
            {"root": str(root), "level": level, "units": len(units), "bad": [asdict(each) for each in found]}
        )
    else:
        for each in found:
            click.echo(f"{each.unit}: {each.problem}")
        click.echo(f"{len(units)} units checked at level {level}: {len(found) or 'nothing'} wrong")
        if found:
            click.echo("To make a unit again, delete its .done.json and run its generate command.")
    raise SystemExit(SHORTFALL if found else 0)


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
    from impure.manifests.collection import select
    from impure.purifier.train import train as train_riae

    units = select(given["shards"], splits=[given["split"]], attacks=_listed(given["attacks"]))
    drawn = all(each.unit.target == BUILTIN for each in units)
    model = given["model"] or ("tiny" if drawn else "base")
    if given["model"] is None:
        say(f"Model: {model}" + (", for the built-in images; --model base is the paper's" if drawn else ""))
    device = open_device(given["device"], given["threads"], tiny=model == "tiny")
    config = train_config(model, given)
    features = open_features(config, given["feature_weights"])
    out = writable(given["out"] or Path("impure-runs") / f"{units[0].root.name}-{model}")
    train_riae(config, units, features, out, device, progress=True, workers=given["workers"])
    if given["as_json"]:
        return print_json({"out": str(out), "config": asdict(config)})
    click.echo(f"Run: {out}")
    names = " ".join(map(shlex.quote, ("--shards", str(units[0].root), "--checkpoint", str(out))))
    return click.echo(f"Next: impure-eval {names}")


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


def _listed(text: str | None) -> list[str]:
    """A comma-separated option as a list."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


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
    from impure.manifests.collection import select
    from impure.pipeline.judges import class_names, describe_images, judges_of
    from impure.purifier.checkpoint import load_riae
    from impure.purifier.defences import build_defences
    from impure.purifier.evaluate import evaluate as measure
    from impure.purifier.report import as_document, table, write_report

    units = select(given["shards"], splits=[given["split"]], attacks=_listed(given["attacks"]))
    out = writable(given["out"] or _beside(given["checkpoint"]))
    tiny = all(each.unit.target == BUILTIN for each in units)
    device = open_device(given["device"], given["threads"], tiny=tiny)
    riae = None if given["checkpoint"] is None else load_riae(given["checkpoint"])
    judges = judges_of(units, given["targets"], given["weights"])
    found = measure(
        units, judges, build_defences(_listed(given["defences"]), riae),
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
