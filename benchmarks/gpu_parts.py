"""What gpu.sh reads off its machine and its files; each part prints one JSON document.

Torch is imported where it is needed: reading files takes a tenth of the time without it.
"""

import csv
import json
import statistics
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import pyarrow.parquet as pq

import impure


@click.group()
def main() -> None:
    """Run one part of gpu.sh."""


@main.command()
def machine() -> None:
    """Say what the figures were measured on."""
    import torch
    from contest import device_name

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    packages = ("torch", "torchvision", "timm", "pillow", "torchattacks", "cleverhans")
    document = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"), "device": device_name(device),
        "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(),
        "versions": {name: version(name) for name in packages},
    }  # fmt: skip
    click.echo(json.dumps(document, indent=1))


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
