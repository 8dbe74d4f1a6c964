import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from impure.manifests.base.errors import InputError
from impure.pipeline import builtin
from impure.pipeline.builtin.drawing import CLASSES, SIZES, render

FOLDER = Path(builtin.__file__).parent
CARD = json.loads((FOLDER / "card.json").read_text())
SIZE = CARD["input_size"]


class Target(nn.Module):
    """The shipped network on [0, 1] images."""

    def __init__(self) -> None:
        super().__init__()
        architecture = CARD["architecture"].removeprefix("timm:")
        self.model = timm.create_model(architecture, pretrained=False, num_classes=CARD["num_classes"])
        weights = {name: value.float() for name, value in load_file(FOLDER / CARD["weights"]).items()}
        self.model.load_state_dict(weights, strict=True)
        self.mean, self.std = (torch.tensor(CARD[key]).view(3, 1, 1) for key in ("mean", "std"))

    def forward(self, images: Tensor) -> Tensor:
        return self.model((images - self.mean) / self.std)


@pytest.fixture(scope="module")
def target() -> Target:
    return Target().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def validation() -> tuple[Tensor, Tensor]:
    pixels = np.stack([render("val", name, index, SIZE) for index in range(20) for name in CLASSES])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255, torch.arange(len(CLASSES)).repeat(20)


def accuracy(target: Target, images: Tensor, labels: Tensor) -> float:
    return (target(images).argmax(1) == labels).float().mean().item()


def test_pixels_are_pinned() -> None:
    pixels = b"".join(render("train", name, 7, 48).tobytes() for name in CLASSES)
    pixels += render("val", "builtin-heart", 399, 65).tobytes()
    assert (
        hashlib.sha256(pixels).hexdigest()
        == "fc2a8cea47e95010fe3239d865e281d241cf92b975eb81ea2577b860f0ebef43"
    )


def test_all_images_differ() -> None:
    drawn = {
        render(split, name, index, 16).tobytes() for split in SIZES for name in CLASSES for index in range(40)
    }
    assert len(drawn) == len(SIZES) * len(CLASSES) * 40


@pytest.mark.parametrize("size", [1, 31, 48, 224])
def test_any_resolution(size: int) -> None:
    image = render("train", CLASSES[0], 0, size)
    assert image.shape == (size, size, 3) and image.dtype == np.uint8


@pytest.mark.parametrize("name", CLASSES)
def test_resolutions_show_the_same_scene(name: str) -> None:
    small = render("val", name, 3, 48).astype(float)
    halved = render("val", name, 3, 96).astype(float).reshape(48, 2, 48, 2, 3).mean((1, 3))
    assert np.abs(small - halved).mean() < 4
    assert np.abs(small - small.mean((0, 1))).mean() > 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("test", CLASSES[0], 0, 8), "train, val"),
        (("val", "disc", 0, 8), "builtin-disc"),
        (("val", CLASSES[0], 400, 8), r"0\.\.399"),
        (("val", CLASSES[0], -1, 8), r"0\.\.399"),
        (("val", CLASSES[0], 0, 0), "size 0"),
    ],
)
def test_bad_arguments_are_named(arguments: tuple[str, str, int, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        render(*arguments)


def test_card_describes_the_dataset_and_the_small_file() -> None:
    template = {"name", "architecture", "num_classes", "wnids", "input_size", "resize", "crop"}
    assert set(CARD) == template | {"interpolation", "antialias", "mean", "std", "weights"}
    assert CARD["name"] == "builtin" and tuple(CARD["wnids"]) == CLASSES
    assert (FOLDER / CARD["weights"]).stat().st_size < 1_000_000


def test_target_knows_the_classes(target: Target, validation: tuple[Tensor, Tensor]) -> None:
    assert accuracy(target, *validation) >= 0.95


def test_pgd_breaks_the_target(target: Target, validation: tuple[Tensor, Tensor]) -> None:
    clean, labels = validation
    adversarial = clean.clone()
    for _ in range(10):
        adversarial.requires_grad_()
        loss = functional.cross_entropy(target(adversarial), labels, reduction="sum")
        step = adversarial.detach() + 4 / 255 * torch.autograd.grad(loss, adversarial)[0].sign()
        adversarial = torch.clamp(step, clean - 16 / 255, clean + 16 / 255).clamp(0, 1)
    assert accuracy(target, (adversarial * 255).round() / 255, labels) <= 0.10
