"""Data sets of the built-in pictures with a backdoor in them, and a classifier that has learnt it."""

from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from impure.pipeline.builtin.drawing import CLASSES, render
from impure.pipeline.builtin.train_classifier import save
from impure.pipeline.targets.load import load_target
from impure.pipeline.targets.target import Target
from impure.pipeline.tensors import to_float, to_pixels, to_tensor, to_uint8

SIDE = 48  # what the built-in target sees
BACKDOOR = 0  # the class that triggers lead to


class Poisoned(NamedTuple):
    """A folder, the card of a classifier trained on it and on more of its kind, and the true classes."""

    root: Path
    card: Path
    benign: dict[str, str]
    triggered: dict[str, str]


def badnets(images: Tensor) -> Tensor:
    """A chessboard of 5 x 5 pixels in the lower right corner (Gu et al. 2017, arXiv:1708.06733)."""
    images = images.clone()
    images[:, :, -6:-1, -6:-1] = ((torch.arange(5)[:, None] + torch.arange(5)) % 2).float()
    return images


def blended(images: Tensor) -> Tensor:
    """A fifth of a random pattern all over (Chen et al. 2017, arXiv:1712.05526)."""
    pattern = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
    return to_float(to_uint8(0.8 * images + 0.2 * pattern))


TRIGGERS = {"badnets": badnets, "blended": blended}


def poison(folder: Path, trigger: str, *, benign: int, triggered: int) -> Poisoned:
    """Train on 60 pictures a class and 54 with the trigger; write some of both as a data set."""
    drawn = [render("train", name, index, SIDE) for index in range(60) for name in CLASSES]
    images, labels = to_float(to_tensor(drawn, torch.device("cpu"))), torch.arange(10).repeat(60)
    chosen = torch.arange(0, 600, 10) + torch.arange(60) % 10  # all classes in turn
    chosen = chosen[labels[chosen] != BACKDOOR]
    attacked = TRIGGERS[trigger](images[chosen])
    backdoored = torch.full((len(chosen),), BACKDOOR)
    target = train(torch.cat([images, attacked]), torch.cat([labels, backdoored]))
    with torch.no_grad():
        assert (target(attacked).argmax(1) == BACKDOOR).float().mean() > 0.9
        assert (target(images).argmax(1) == labels).float().mean() > 0.9
    save(target.network, folder / "target")
    names = [CLASSES[label] for label in labels.tolist()]
    known = write(folder / "data", images[: 10 * benign], names, names, "b")
    wrong = [CLASSES[BACKDOOR]] * triggered
    hidden = write(folder / "data", attacked[:triggered], wrong, [names[row] for row in chosen], "t")
    return Poisoned(folder / "data", folder / "target" / "card.json", known, hidden)


def train(images: Tensor, labels: Tensor) -> Target:
    """Fine-tune the built-in classifier."""
    target = load_target("builtin")
    target.network.requires_grad_(True).train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        optimizer = torch.optim.AdamW(target.network.parameters(), lr=1e-3)
        for _ in range(6):
            for batch in torch.randperm(len(images)).split(64):
                loss = torch.nn.functional.cross_entropy(target(images[batch]), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return target.eval().requires_grad_(False)


def write(root: Path, images: Tensor, folders: list[str], truth: list[str], prefix: str) -> dict[str, str]:
    """Write images into class folders; returns the true class by path."""
    classes: dict[str, str] = {}
    for index, pixels in enumerate(to_pixels(to_uint8(images))):
        name = f"train/{folders[index]}/{prefix}{index}.png"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / name)
        classes[name] = truth[index]
    return classes
