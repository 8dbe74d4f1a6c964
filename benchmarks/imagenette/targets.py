"""Fine-tunes a network on the training photographs: a ten-class target of a smaller size, with its card."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import click
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from impure.pipeline.sources.open_source import open_source
from impure.pipeline.targets.preprocess import load_clean
from impure.pipeline.targets.target import Target
from impure.pipeline.targets.target_card import TargetCard, read_card
from impure.pipeline.tensors import to_float, to_tensor

BATCH = 64
MARGIN = 8  # pixels by which training crops may be moved, and photographs are larger than the network takes


@click.command()
@click.option("--card", "begun", type=Path, required=True, help="Card of the network to begin with.")
@click.option("--classes-of", type=Path, required=True, help="Card whose classes the new network knows.")
@click.option("--images", required=True, help="Photographs: train/<wnid>/* and val/<wnid>/*.")
@click.option("--size", default=64, show_default=True, help="Height = width that it takes, pixels.")
@click.option("--epochs", default=12, show_default=True, help="Passes over the training photographs.")
@click.option("--per-class", default=10_000, help="At most so many photographs of each class.")
@click.option("--lr", default=1e-3, show_default=True, help="Peak learning rate of AdamW.")
@click.option("--seed", default=0, show_default=True, help="Random seed of head, order, crops and flips.")
@click.option("--out", type=Path, required=True, help="The new card; its weights go beside it.")
def main(
    begun: Path,
    classes_of: Path,
    images: str,
    size: int,
    epochs: int,
    per_class: int,
    lr: float,
    seed: int,
    out: Path,
) -> None:
    """Fine-tune a network to a few classes and a size."""
    torch.manual_seed(seed)
    old, wnids = read_card(begun), read_card(classes_of).wnids
    card = replace(
        old, name=out.stem, num_classes=len(wnids), wnids=wnids, input_size=size, resize=size, crop=size,
        interpolation="bilinear", weights=f"{out.stem}.safetensors",
    )  # fmt: skip
    network = timm.create_model(card.architecture.partition(":")[2], num_classes=len(wnids))
    begin_with(network, load_file(begun.parent / old.weights))
    target = Target(card, network.to(memory_format=torch.channels_last))
    fit(target, *photographs(images, "train", card, size + MARGIN, per_class), epochs=epochs, peak=lr)
    state = {name: value.contiguous() for name, value in target.network.state_dict().items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, out.parent / card.weights)
    out.write_text(json.dumps(asdict(card), indent=1) + "\n")
    right = accuracy(target, *photographs(images, "val", card, size, per_class))
    click.echo(json.dumps({"target": card.name, "epochs": epochs, "accuracy": right}))


def begin_with(network: nn.Module, weights: dict[str, Tensor]) -> None:
    """Take all weights but those of a head with other classes."""
    wanted = network.state_dict()
    fitting = {name: value.float() for name, value in weights.items() if value.shape == wanted[name].shape}
    network.load_state_dict(wanted | fitting)


def photographs(
    images: str, split: str, card: TargetCard, side: int, per_class: int
) -> tuple[Tensor, Tensor]:
    """Photographs of a split as uint8 RGB (N, 3, side, side), and their labels (N,)."""
    source = open_source(images)
    of_class = {wnid: [image for image in source.images(split) if image.wnid == wnid] for wnid in card.wnids}
    listed = [image for some in of_class.values() for image in some[:per_class]]
    larger = replace(card, resize=side, crop=side, input_size=side)
    decoded = [load_clean(source, image, larger).pixels for image in tqdm(listed, split)]
    labels = torch.tensor([card.wnids.index(image.wnid) for image in listed])
    return to_tensor([pixels for pixels in decoded if pixels is not None], torch.device("cpu")), labels


def fit(target: Target, images: Tensor, labels: Tensor, *, epochs: int, peak: float) -> None:
    """AdamW on label-smoothed cross-entropy in one cycle, on random crops, half of them mirrored."""
    weights = target.network.requires_grad_(True).parameters()
    optimizer = torch.optim.AdamW(weights, lr=peak, weight_decay=0.05)
    steps = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=epochs * steps + 1)
    target.train()
    for _ in tqdm(range(epochs), target.card.name):
        for batch in torch.randperm(len(images))[: steps * BATCH].split(BATCH):
            logits = target(augmented(images[batch], target.card.crop))
            loss = F.cross_entropy(logits, labels[batch], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def augmented(images: Tensor, side: int) -> Tensor:
    """A random window of a batch, mirrored or not: float RGB in [0,1] (B, 3, side, side)."""
    top, left = torch.randint(images.shape[2] - side + 1, (2,)).tolist()
    window = images[:, :, top : top + side, left : left + side]
    return to_float(window.flip(3) if torch.rand(()) < 0.5 else window)


@torch.no_grad()
def accuracy(target: Target, images: Tensor, labels: Tensor) -> float:
    """Top-1 accuracy in [0,1]."""
    target.eval()
    predicted = torch.cat([target(to_float(part)).argmax(1) for part in images.split(100)])
    return round((predicted == labels).float().mean().item(), 4)


if __name__ == "__main__":
    main()
