"""The parts of gpu.sh that no other command does; each prints one JSON document."""

import csv
import json
import shutil
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import pyarrow.parquet as pq
import torch
import torchvision
from contest import device_name
from safetensors.torch import save_model
from torch import Tensor, nn

import impure
from impure.pipeline.sources.open_source import open_source
from impure.pipeline.sources.source import Source, SourceImage
from impure.pipeline.targets.preprocess import load_clean
from impure.pipeline.targets.target import Target
from impure.pipeline.targets.target_card import TargetCard, read_card
from impure.pipeline.tensors import to_tensor

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
WEIGHTS = "target.safetensors"


@click.group()
def main() -> None:
    """Run one part of gpu.sh."""


@main.command()
def machine() -> None:
    """Say what the figures were measured on."""
    packages = ("torch", "torchvision", "timm", "pillow", "torchattacks", "cleverhans")
    document = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"), "device": device_name(DEVICE),
        "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(),
        "versions": {name: version(name) for name in packages},
    }  # fmt: skip
    click.echo(json.dumps(document, indent=1))


@main.command()
@click.argument("network")
@click.argument("card_file", metavar="CARD", type=Path)
@click.argument("photos", type=Path)
@click.argument("out", type=Path)
@click.option("--count", default=400, show_default=True, help="Number of photographs at most.")
def untrained(network: str, card_file: Path, photos: Path, out: Path, count: int) -> None:
    """Make an untrained target of a torchvision NETWORK, and a folder of photographs that it gets right.

    It costs as much time as a trained one. Each photograph goes to the class that is predicted for it.
    """
    torch.manual_seed(0)
    out.mkdir()
    card = replace(read_card(card_file), name=network, architecture=f"torchvision:{network}", weights=WEIGHTS)
    target = Target(card, torchvision.models.get_model(network, weights=None)).to(DEVICE)
    source = open_source(str(photos))
    listed = source.images("train")
    chosen = listed[:: len(listed) // count + 1]
    batches = [chosen[start : start + 32] for start in range(0, len(chosen), 32)]
    _calibrate(target, _pixels(source, batches[0], card))
    save_model(target.network, str(out / WEIGHTS))
    (out / "card.json").write_text(json.dumps(asdict(card)))
    sizes = Counter[str]()
    for batch in batches:
        for image, label in zip(batch, target(_pixels(source, batch, card)).argmax(1).tolist(), strict=True):
            folder = out / "train" / card.wnids[label]
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(photos / image.source_id, folder)
            sizes[folder.name] += 1
    click.echo(json.dumps({"images_of_each_class": sorted(sizes.values())}))


def _calibrate(target: Target, images: Tensor) -> None:
    """Take BatchNorm's statistics from one batch, so that an untrained network tells pictures apart."""
    for module in target.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    target.train()
    target(images)
    target.eval()


def _pixels(source: Source, images: Sequence[SourceImage], card: TargetCard) -> Tensor:
    """Images as the target sees them, in [0,1] (N, 3, crop, crop)."""
    decoded = [load_clean(source, image, card).pixels for image in images]
    return to_tensor([pixels for pixels in decoded if pixels is not None], DEVICE)


@main.command()
@click.argument("path", type=Path)
def log(path: Path) -> None:
    """Summarise a training's log.csv: images a second, without the first row, which holds the warm-up."""
    rates = [float(row["images_per_second"]) for row in csv.DictReader(path.open())]
    document = {
        "rows": len(rates),
        "first": rates[0],
        "images_per_second": statistics.median(rates[1:] or rates),
    }
    click.echo(json.dumps(document))


@main.command()
@click.argument("one", type=Path)
@click.argument("other", type=Path)
def agreement(one: Path, other: Path) -> None:
    """Compare the verdicts and the stored pixels of two collections of one plan, image by image."""
    rows, others = _verdicts(one), _verdicts(other)
    if rows.keys() != others.keys():
        raise click.ClickException(f"{one} and {other} are not of one plan")
    equal = {
        name: sum(rows[key][name] == others[key][name] for key in rows) / len(rows)
        for name in ("success", "pred_adv", "adv_px_sha256")
    }
    click.echo(json.dumps({"pairs": len(rows), "equal": equal}, indent=1))


def _verdicts(root: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Rows of all manifests by attack and source image."""
    tables = [pq.read_table(shard.manifest).to_pylist() for shard in impure.open_collection(root)]
    return {(row["attack"], row["source_id"]): row for rows in tables for row in rows}


if __name__ == "__main__":
    main()
