"""Training of the built-in target: an ordinary small CNN, with no adversarial training and no augmentation.

`python -m impure.pipeline.builtin.train_classifier --out DIR` wrote the card and the weights beside this
file. Training is seeded; on another machine or thread count float32 rounding still gives slightly different
weights.
"""

import json
from pathlib import Path

import click
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from impure.pipeline.builtin.drawing import CLASSES, SIZES, render
from impure.pipeline.tensors import to_float, to_tensor

SIZE = 48  # height = width in pixels
EPOCHS = 12
BATCH = 128
RATE = 3e-3  # peak learning rate
MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)
ARCHITECTURE = "test_byobnet"  # timm's 0.2 M parameter residual CNN
WEIGHTS = "builtin.safetensors"


def load(split: str) -> tuple[Tensor, Tensor]:
    """Draw a whole split: uint8 images (N, 3, SIZE, SIZE) in channels_last, labels (N,)."""
    scenes = [(label, index) for index in range(SIZES[split]) for label in range(len(CLASSES))]
    images = [render(split, CLASSES[label], index, SIZE) for label, index in tqdm(scenes, f"draw {split}")]
    labels = torch.tensor([label for label, _ in scenes])
    return to_tensor(images, torch.device("cpu")), labels


def normalise(images: Tensor) -> Tensor:
    """uint8 RGB (N, 3, H, W) to the network's float input."""
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (MEAN, STD))
    return (to_float(images) - mean) / std


def fit(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """AdamW on label-smoothed cross-entropy, learning rate in one cycle; last incomplete batch dropped."""
    steps = len(images) // BATCH
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=EPOCHS * steps + 1)
    model.train()
    for _ in tqdm(range(EPOCHS), "train"):
        for batch in torch.randperm(len(images))[: steps * BATCH].split(BATCH):
            logits = model(normalise(images[batch]))
            loss = functional.cross_entropy(logits, labels[batch], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Top-1 accuracy in [0, 1]."""
    model.eval()
    predicted = torch.cat([model(normalise(part)).argmax(1) for part in images.split(500)])
    return (predicted == labels).float().mean().item()


def save(model: nn.Module, out: Path) -> None:
    """Write card.json and the float16 weights into `out`."""
    card = {
        "name": "builtin",
        "architecture": f"timm:{ARCHITECTURE}",
        "num_classes": len(CLASSES),
        "wnids": CLASSES,
        "input_size": SIZE,
        "resize": SIZE,
        "crop": SIZE,
        "interpolation": "bilinear",
        "antialias": True,
        "mean": MEAN,
        "std": STD,
        "weights": WEIGHTS,
    }
    out.mkdir(parents=True, exist_ok=True)
    state = model.state_dict().items()
    halves = {name: value.half() if value.is_floating_point() else value for name, value in state}
    save_file({name: value.contiguous() for name, value in halves.items()}, out / WEIGHTS)
    (out / "card.json").write_text(json.dumps(card, indent=1) + "\n")


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write to."
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    help="Random seed of the first weights and of the order of the images.",
)
def main(out: Path, seed: int) -> None:
    """Train the built-in target and write its card and weights."""
    torch.manual_seed(seed)
    model = timm.create_model(ARCHITECTURE, pretrained=False, num_classes=len(CLASSES))
    # As the images are: twice as fast.
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    fit(model, *load("train"))
    # Half precision first, so that the figure is that of the shipped weights.
    accurate = accuracy(model.half().float(), *load("val"))
    save(model, out)
    click.echo(f"top-1 on the validation split: {accurate:.4f}; wrote {out / 'card.json'}", err=True)


if __name__ == "__main__":
    main()
