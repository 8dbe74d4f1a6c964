"""`impure-eval`: measure defences on the stored shards."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from impure.manifests.commands.click_options import comma_separated, device_options, json_option
from impure.manifests.commands.console import (
    HELP,
    Command,
    print_json,
    writable,
)
from impure.pipeline.sources.source_names import BUILTIN
from impure.purifier.commands.shared_inputs import open_device, open_shards, partition_option

if TYPE_CHECKING:
    from impure.purifier.evaluation.predict import Combine
    from impure.purifier.riae.noise import Partition


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateArguments:
    """The values of the options of `impure-eval`; None where nothing was said."""

    shards: str
    checkpoint: Path | None
    defences: str
    split: str
    attacks: str | None
    limit: int | None
    samples: int
    combine: "Combine"
    partition: "Partition"
    extra_resize: bool
    targets: tuple[str, ...]
    weights: Path | None
    batch_size: int
    seed: int
    device: str
    threads: int | None
    out: Path | None
    as_json: bool


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
    "if every sample is right.",
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
def evaluate(**values: Any) -> None:
    """Measure defences: accuracy on clean and attacked images, with 95 % intervals (the paper's Table 1).

    Judges the stored bytes, and writes the table as Markdown, CSV, JSON and a self-contained HTML page.

    \b
      impure-eval --shards ./impure-data/builtin --checkpoint ./impure-runs/builtin-tiny
      impure-eval --shards ROOT --checkpoint lab/purifier@main --samples 5 --combine worst --limit 500
    """
    from impure.pipeline.targets.of_collection import class_names, classifiers_of, describe_images
    from impure.purifier.defences.defence_registry import build_defences
    from impure.purifier.evaluation.measure import EvaluateConfig
    from impure.purifier.evaluation.measure import evaluate as measure
    from impure.purifier.evaluation.report import as_document, table, write_report
    from impure.purifier.riae.model import RIAE

    asked = EvaluateArguments(**values)
    filters = {"splits": [asked.split], "attacks": comma_separated(asked.attacks)}
    shards = open_shards(asked.shards, filters)
    riae = None if asked.checkpoint is None else RIAE.from_pretrained(asked.checkpoint)
    defences = build_defences(comma_separated(asked.defences), riae, partition=asked.partition)
    out = writable(asked.out or _beside(asked.checkpoint))
    tiny = all(shard.shard_id.target == BUILTIN for shard in shards)
    device = open_device(asked.device, asked.threads, tiny=tiny)
    classifiers = classifiers_of(shards, asked.targets, asked.weights)
    config = EvaluateConfig(
        batch_size=asked.batch_size,
        seed=asked.seed,
        samples=asked.samples,
        combine=asked.combine,
        extra_resize=asked.extra_resize,
        limit=asked.limit,
    )
    evaluation = measure(shards, classifiers, defences, config, device=device, progress=True)
    images = describe_images(shards)
    paths = write_report(evaluation, out, images=images, classes=class_names(shards))
    if asked.as_json:
        return print_json(as_document(evaluation, images))
    click.echo(f"{table(evaluation)}\n\nTop-1 accuracy in %, Wilson 95 % interval; {images}.")
    return click.echo("Report: " + " ".join(str(path) for path in paths))


def _beside(checkpoint: Path | None) -> Path:
    """Where a report goes by default: into the run's folder, where there is one."""
    if checkpoint is None or not checkpoint.exists():
        return Path("impure-report")
    return (checkpoint if checkpoint.is_dir() else checkpoint.parent) / "report"
