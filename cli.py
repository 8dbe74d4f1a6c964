"""Command line: parse, validate, build frozen configs, call. The only reader of arguments and default paths.

Everything heavy is imported inside the commands, so that `--help` answers at once.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from impure.manifests.errors import InputError

if TYPE_CHECKING:
    import torch

    from impure.manifests.collection import Collection, Committed
    from impure.pipeline.attacks import AttackConfig
    from impure.pipeline.generate import UnitResult
    from impure.pipeline.plans import Plan, SampleConfig
    from impure.pipeline.sources import Source
    from impure.pipeline.targets import Target

BUILTIN = "builtin"
NINE = ("fgsm", "pgd", "mifgsm", "difgsm", "mdifgsm", "apgd-ce", "apgd-dlr", "cw", "deepfool")
PER_CLASS = {"train": 10, "val": 5}  # the paper's (section 4.1)
SHORTFALL = 3  # exit code: finished, but with less than was asked for, or with bad units

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Command(click.Command):
    """A command whose foreseeable failures are one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it, turning what a user or a machine can cause into a message."""
        try:
            return super().invoke(ctx)
        except InputError as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            raise click.ClickException(_os_error(error)) from error
        except (MemoryError, RuntimeError) as error:
            if not _is_foreseeable(error):
                raise
            raise click.ClickException(f"{error}".splitlines()[0] + _remedy(error)) from error


def _os_error(error: OSError) -> str:
    """One line for what the operating system refused."""
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror or error}; nothing that is committed is lost, the same command continues"


def _is_foreseeable(error: BaseException) -> bool:
    """Out of memory, a broken disk, a training that diverged: by name, so that torch need not be imported."""
    return type(error).__name__ in ("MemoryError", "OutOfMemoryError", "ReadBackError", "TrainingError")


def _remedy(error: BaseException) -> str:
    """What helps against running out of memory."""
    return "; out of memory: give a smaller --batch-size" if "Memory" in type(error).__name__ else ""


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
    click.option("--threads", type=click.IntRange(min=1), help="CPU threads. [default: all cores]"),
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
    click.option("--labels", type=click.Path(path_type=Path), help="Of a flat val/: NAME WNID a line."),
    click.option(
        "--split", type=click.Choice(["train", "val", "all"]), default="all", show_default=True,
        help="ImageNet's split. val yields the splits validation and test, disjoint.",
    ),
    target_options,
    click.option(
        "--per-class", type=click.IntRange(min=1),
        help="Correctly classified images of a class in each split. [default: 10 in train, 5 in others]",
    ),
    click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of every draw."),
    click.option("--shard-size", type=click.IntRange(min=1), default=500, show_default=True, help="Images."),
    click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Images."),
    click.option("--allow-short", is_flag=True, help="Accept classes with too few images (exit code 3)."),
    device_options,
    click.option("--out", type=click.Path(path_type=Path), help="[default: ./impure-data/SOURCE]"),
    json_option,
)  # fmt: skip


# --- impure-data ---


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="impure")
def data() -> None:
    r"""Make and keep collections of adversarial image pairs.

    \b
    The whole way, on built-in images that need no download:
      impure-data generate --attack pgd --eps 16
      impure-train --shards ./impure-data/builtin --epochs 1
    On ImageNet:
      impure-data generate --images /data/imagenet --target resnet101 --attack all --eps 16
    """


@dataclass(frozen=True)
class Setup:
    """What sample and generate both need."""

    collection: "Collection"
    source: "Source"
    target: "Target"
    samples: "list[SampleConfig]"


def set_up(given: dict[str, Any]) -> Setup:
    """Open source, target and collection as the shared options say."""
    from impure.manifests.collection import Collection
    from impure.pipeline.plans import SampleConfig
    from impure.pipeline.sources import open_source

    if given["images"] == BUILTIN:
        say("Images: the built-in dataset (ten drawn classes, no photographs); see --images for ImageNet.")
    source = open_source(given["images"], given["labels"])
    root = given["out"] or Path("impure-data") / source.name
    samples = [
        SampleConfig(
            split=split, per_class=given["per_class"] or PER_CLASS[split], seed=given["seed"],
            shard_size=given["shard_size"], batch_size=given["batch_size"],
        )
        for split in (PER_CLASS if given["split"] == "all" else (given["split"],))
    ]  # fmt: skip
    return Setup(Collection(root), source, open_target(given), samples)


def open_target(given: dict[str, Any]) -> "Target":
    """Build the target on its device."""
    from impure.pipeline.targets import load_target

    name = given["target"] or (BUILTIN if given["images"] == BUILTIN else None)
    if name is None:
        raise InputError(
            "--images needs a --target: resnet101, inception_v3, inception_resnet_v2 or a card.json"
        )
    return load_target(name, given["weights"]).to(open_device(given["device"], given["threads"]))


def open_device(name: str, threads: int | None) -> "torch.device":
    """Resolve --device, and set the number of CPU threads, on which float32 rounding depends."""
    import torch

    torch.set_num_threads(threads or os.cpu_count() or 1)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name} cannot be used: {str(error).splitlines()[0]}") from error
    return torch.device(name)


@data.command("sample")
@sample_options
def sample_command(**given: Any) -> None:
    """Choose images: seeded, so many of each class, only those that the target classifies correctly.

    Writes frozen plans (Parquet) that `generate` follows; the same command finds them again.
    """
    setup = set_up(given)
    plans = draw_plans(setup, given["allow_short"])
    counts = {plan.split: plan.counts() for plan in plans}
    if given["as_json"]:
        print_json({"out": str(setup.collection.root), "plans": counts})
    else:
        print_plans(counts)
        click.echo(f"Plans: {setup.collection.root / 'plans'}")
    exit_on_shortfall(plans, [])


def draw_plans(setup: Setup, allow_short: bool) -> "list[Plan]":
    """Sample every split asked for, or find its frozen plan, and describe the collection."""
    from impure.pipeline.generate import software
    from impure.pipeline.plans import SPLITS_OF
    from impure.pipeline.sampling import classes_in, sample

    plans = []
    for config in setup.samples:
        classes = len(classes_in(setup.source, setup.target, config.split))
        with progress(classes * config.per_class * len(SPLITS_OF[config.split]), " sampled") as advance:
            plans += sample(
                setup.collection,
                setup.source,
                setup.target,
                config,
                allow_short=allow_short,
                progress=advance,
            )
    setup.collection.write_about(software())
    return plans


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


@data.command("generate")
@click.option(
    "--attack", required=True, metavar="NAME[,NAME…]|all",
    help=f"{', '.join(NINE)}; clean stores untouched pairs; all is clean and the nine.",
)  # fmt: skip
@click.option("--eps", type=int, default=16, show_default=True, help="L∞ budget in units of 1/255.")
@click.option("--preset", type=click.Choice(["paper", "library"]), default="paper", show_default=True)
@click.option("--set", "overrides", multiple=True, metavar="K=V", help="One parameter, e.g. --set steps=20.")
@click.option(
    "--implementation", type=click.Choice(["impure", "torchattacks", "cleverhans"]), default="impure",
    show_default=True, help="The libraries need `pip install 'impure[references]'`.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Sample, say what would be made, and stop.")
@sample_options
def generate_command(**given: Any) -> None:
    r"""Attack images and store the pairs in WebDataset shards with Parquet manifests.

    Samples first where there is no plan. Killed at any moment, the same command goes on where it was.

    \b
      impure-data generate --attack pgd --eps 16
      impure-data generate --attack all --images /data/imagenet --target resnet101 --split train
    """
    from impure.pipeline.generate import totals
    from impure.pipeline.shards import sweep

    attacks = attack_configs(given)
    setup = set_up(given)
    sweep(setup.collection)
    plans = draw_plans(setup, given["allow_short"])
    if given["dry_run"]:
        return print_dry_run(setup, plans, attacks, given["as_json"])
    results = run_generation(setup, plans, attacks, given)
    if given["as_json"]:
        counts = {plan.split: plan.counts() for plan in plans}
        print_json({"out": str(setup.collection.root), "plans": counts, "attacks": totals(results)})
    else:
        print_plans({plan.split: plan.counts() for plan in plans})
        print_results(setup.collection, results)
    exit_on_shortfall(plans, results)
    return None


def attack_configs(given: dict[str, Any]) -> "list[AttackConfig | None]":
    """The attacks that were asked for; None stands for the untouched pairs."""
    from impure.manifests.collection import CLEAN
    from impure.pipeline.attacks import AttackConfig, parse_override

    asked = [name.strip() for name in given["attack"].split(",") if name.strip()]
    names = list(
        dict.fromkeys(each for name in asked for each in ((CLEAN, *NINE) if name == "all" else (name,)))
    )
    overrides = tuple(parse_override(text) for text in given["overrides"])
    return [
        None if name == CLEAN else AttackConfig(
            name=name, eps_255=given["eps"], preset=given["preset"],
            implementation=given["implementation"], overrides=overrides,
        )
        for name in names
    ]  # fmt: skip


def run_generation(
    setup: Setup, plans: "Sequence[Plan]", attacks: "Sequence[AttackConfig | None]", given: dict[str, Any]
) -> "list[UnitResult]":
    """Make every unit of every plan."""
    from impure.pipeline.generate import Job, generate, new_run_id

    run_id, results = new_run_id(), []
    with progress(sum(plan.table.num_rows for plan in plans) * len(attacks), " images") as advance:
        for plan in plans:
            jobs = [
                Job(
                    collection=setup.collection, source=setup.source, target=setup.target,
                    plan=plan, attack=attack, seed=given["seed"], batch_size=given["batch_size"], run_id=run_id,
                )
                for attack in attacks
            ]  # fmt: skip
            results += list(generate(jobs, advance))
    return results


def print_dry_run(
    setup: Setup, plans: "Sequence[Plan]", attacks: "Sequence[AttackConfig | None]", as_json: bool
) -> None:
    """Say what a run would make."""
    images = sum(plan.counts()["sampled"] for plan in plans)
    shards = sum(len(set(plan.table["shard"].to_pylist())) for plan in plans)
    pixels = setup.target.card.crop**2 * 3
    gib = (
        images * len(attacks) * 2 * pixels * 0.75 / 2**30
    )  # PNG keeps about three quarters of attacked pixels
    planned = {
        "out": str(setup.collection.root), "images": images, "attacks": len(attacks),
        "pairs": images * len(attacks), "units": shards * len(attacks), "gib_at_most_about": round(gib, 3),
    }  # fmt: skip
    if as_json:
        return print_json(planned)
    return click.echo(", ".join(f"{name} {value}" for name, value in planned.items()))


def print_results(collection: "Collection", results: "Sequence[UnitResult]") -> None:
    """What was made, by attack, and what to type next."""
    from impure.manifests.tables import markdown_table
    from impure.pipeline.generate import totals

    rows = [
        [name, each["planned"], each["stored"], each["failed"], each["succeeded"], percent(each)]
        for name, each in totals(results).items()
    ]
    click.echo("\n" + markdown_table(["attack", "planned", "stored", "failed", "fooled", "fooled %"], rows))
    resumed = sum(result.resumed for result in results)
    click.echo(f"\n{len(results)} units, {resumed} of them there already. Collection: {collection.root}")
    click.echo(f"Next: impure-data preview {collection.root}    impure-train --shards {collection.root}")


def percent(counts: dict[str, int]) -> str:
    """Share of the stored images on which the target was fooled."""
    return f"{100 * counts['succeeded'] / counts['stored']:.1f}" if counts["stored"] else "-"


@data.command("status")
@root_argument
@json_option
def status_command(root: Path, as_json: bool) -> None:
    """Say how much of a collection is there: units, images, success rates, size."""
    from impure.manifests.collection import Collection

    collection = Collection(root)
    missing = collection.missing()
    groups: dict[tuple[str, str, str], list[Committed]] = {}
    for each in collection.committed:
        groups.setdefault((each.unit.target, each.unit.attack, each.unit.split), []).append(each)
    rows = [_status_row(group, units, missing) for group, units in groups.items()]
    if as_json:
        return print_json({"root": str(root), "groups": rows, "missing": [str(unit) for unit in missing]})
    return _print_status(rows, len(missing))


def _status_row(group: tuple[str, str, str], units: "list[Committed]", missing: list[Any]) -> dict[str, Any]:
    """Sum up one target, attack and split."""
    counts = {name: sum(each.marker["counts"][name] for each in units) for name in units[0].marker["counts"]}
    return {
        "target": group[0], "attack": group[1], "split": group[2], "units": len(units),
        "missing_units": sum((unit.target, unit.attack, unit.split) == group for unit in missing),
        **counts, "bytes": sum(each.marker["tar"]["bytes"] for each in units),
    }  # fmt: skip


def _print_status(rows: list[dict[str, Any]], missing: int) -> None:
    """Status as a table."""
    from impure.manifests.tables import markdown_table

    cells = [
        [f"{row['target']}/{row['attack']}/{row['split']}", row["units"], row["missing_units"], row["stored"],
         row["failed"], percent(row), f"{row['bytes'] / 2**20:.1f}"]
        for row in rows
    ]  # fmt: skip
    header = ["target/attack/split", "units", "missing", "stored", "failed", "fooled %", "MiB"]
    click.echo(markdown_table(header, cells))
    if missing:
        click.echo(
            f"{missing} planned units are not there yet; the generate command that began them continues."
        )


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
    from impure.manifests.verify import Finding, verify

    collection = Collection(root)
    units = collection.committed
    if not units:
        raise InputError(f"{root}: no committed shard there")
    with progress(len(units), " units") as advance:
        found = verify(units, level, advance)
    found += [Finding(str(unit), "planned, but not committed") for unit in collection.missing()]
    if as_json:
        print_json(
            {"root": str(root), "level": level, "units": len(units), "bad": [asdict(each) for each in found]}
        )
    else:
        for each in found:
            click.echo(f"{each.unit}: {each.problem}")
        click.echo(f"{len(units)} units checked at level {level}: {len(found) or 'nothing'} wrong")
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

    units = select(str(root))
    sheet = contact_sheet(units, per_attack, class_names(units))
    path = out or root / "preview.png"
    with atomic_path(path) as temporary:
        sheet.save(temporary, "PNG")
    click.echo(str(path))


def class_names(units: "Sequence[Committed]") -> tuple[str, ...]:
    """Names of the classes of the units' targets, in label order, where all share one label space."""
    spaces = {tuple(each.marker["config"]["target"]["wnids"]) for each in units}
    if len(spaces) != 1:
        return ()
    from timm.data.imagenet_info import ImageNetInfo

    info, (wnids,) = ImageNetInfo(), spaces
    known = set(info.label_names())
    return tuple(
        info.label_name_to_description(wnid).split(",")[0] if wnid in known else wnid for wnid in wnids
    )
