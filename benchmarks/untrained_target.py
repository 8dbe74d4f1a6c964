"""An untrained target for gpu.sh, and photographs that it gets right; prints one JSON document."""

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import click
import torch
import torchvision
from safetensors.torch import save_model
from torch import Tensor, nn

from impure.pipeline.sources.open_source import open_source
from impure.pipeline.sources.source import Source, SourceImage
from impure.pipeline.targets.preprocess import load_clean
from impure.pipeline.targets.target import Target
from impure.pipeline.targets.target_card import TargetCard, read_card
from impure.pipeline.tensors import to_tensor

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
WEIGHTS = "target.safetensors"


@click.command()
@click.argument("network")
@click.argument("card_file", metavar="CARD", type=Path)
@click.argument("photos", type=Path)
@click.argument("out", type=Path)
@click.option("--count", default=400, show_default=True, help="Number of photographs at most.")
def main(network: str, card_file: Path, photos: Path, out: Path, count: int) -> None:
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


if __name__ == "__main__":
    main()
