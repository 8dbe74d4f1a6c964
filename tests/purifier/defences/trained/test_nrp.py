"""NRP: its sizes, its perturbations, its loss."""

import math
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from impure.manifests.base.errors import InputError
from impure.purifier.defences.trained.base.trainable import TrainingImages
from impure.purifier.defences.trained.nrp import NRP, DenseBlock, NRPNetwork, perturb


def small(**sizes: Any) -> NRPNetwork:
    torch.manual_seed(0)
    return NRPNetwork(**{"width": 4, "blocks": 1, "growth": 2, "steps": 3, **sizes}).double()


@pytest.fixture
def images() -> TrainingImages:
    clean = torch.rand(2, 3, 7, 6, dtype=torch.float64, generator=Generator().manual_seed(1))
    clean[0, :, 0, :2] = torch.tensor([0.0, 1.0])
    return TrainingImages(clean, clean, torch.arange(2), torch.zeros(2, dtype=torch.int64))


@pytest.fixture
def features() -> Any:
    """Two nodes of a frozen network."""
    torch.manual_seed(2)
    first, second = nn.Conv2d(3, 5, 3).double(), nn.Conv2d(5, 2, 3).double()

    def outputs(images: Tensor) -> list[Tensor]:
        node = first(images).relu()
        return [node, second(node)]

    return outputs


@pytest.mark.parametrize(("kind", "weights"), [("rrdb", 16_550_275), ("residual", 1_702_211)])
def test_the_papers_sizes(kind: Any, weights: int) -> None:
    with torch.device("meta"):
        network = NRPNetwork(kind=kind)
    shapes = {name: tuple(weight.shape) for name, weight in network.purifier.state_dict().items()}
    assert sum(math.prod(shape) for shape in shapes.values()) == weights
    assert shapes["conv_first.weight"] == (64, 3, 3, 3)
    if kind == "rrdb":
        assert shapes["RRDB_trunk.22.RDB3.conv4.weight"] == (32, 64 + 3 * 32, 3, 3)
        assert shapes["RRDB_trunk.22.RDB3.conv5.weight"] == (64, 64 + 4 * 32, 3, 3)
        assert shapes["trunk_conv.weight"] == (3, 64, 3, 3)
    else:
        assert shapes["recon_trunk.22.conv2.weight"] == (64, 64, 3, 3)
        assert shapes["conv_last.weight"] == (3, 64, 3, 3)


@torch.no_grad()
def test_a_dense_block_sees_all_before_it() -> None:
    torch.manual_seed(3)
    block, features = DenseBlock(4, 2).double(), torch.randn(1, 4, 5, 5, dtype=torch.float64)
    one = F.leaky_relu(block.conv1(features), 0.2)
    two = F.leaky_relu(block.conv2(torch.cat([features, one], 1)), 0.2)
    three = F.leaky_relu(block.conv3(torch.cat([features, one, two], 1)), 0.2)
    four = F.leaky_relu(block.conv4(torch.cat([features, one, two, three], 1)), 0.2)
    five = block.conv5(torch.cat([features, one, two, three, four], 1))
    assert torch.allclose(block(features), features + five / 5, atol=1e-14)


def test_perturbations_climb_within_the_budget(images: TrainingImages, features: Any) -> None:
    def distance(attacked: Tensor) -> Tensor:
        pairs = zip(features(attacked), features(images.clean), strict=True)
        return torch.cat([(a - b).square().flatten(1) for a, b in pairs], 1).mean(1)

    def after(steps: int) -> Tensor:
        return perturb(images.clean, features, Generator().manual_seed(4), eps=16 / 255, steps=steps)

    start, one, end = after(0), after(1), after(20)
    for attacked in (start, one, end):
        assert (attacked - images.clean).abs().max() <= 16 / 255 + 1e-15
        assert attacked.min() >= 0 and attacked.max() <= 1
    assert (distance(end) > 2 * distance(start)).all()
    moved = start.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(distance(moved).sum(), moved)
    wanted = (start + 2.55 / 255 * gradient.sign()).clamp(0, 1)
    wanted = torch.maximum(torch.minimum(wanted, images.clean + 16 / 255), images.clean - 16 / 255)
    assert torch.allclose(one, wanted, atol=1e-14)


@pytest.mark.parametrize("kind", ["rrdb", "residual"])
def test_the_loss_is_features_and_a_little_of_the_pixels(
    kind: str, images: TrainingImages, features: Any
) -> None:
    network = small(kind=kind)
    losses = network.losses(images, Generator().manual_seed(5), features)
    attacked = perturb(images.clean, features, Generator().manual_seed(5), eps=16 / 255, steps=3)
    with torch.no_grad():
        purified = network(attacked)
        pairs = list(zip(features(purified), features(images.clean), strict=True))
        feature = sum(float((a - b).abs().sum() / a.numel()) for a, b in pairs) / 2
        pixel = float(((purified - images.clean) ** 2).sum() / purified.numel())
    wanted = torch.tensor([feature + 0.01 * pixel, feature, pixel], dtype=torch.float64)
    assert torch.allclose(losses.detach(), wanted, rtol=1e-12)
    losses[0].backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in network.parameters())
    with pytest.raises(InputError, match="--features"):
        network.losses(images, Generator(), None)


def test_the_output_is_clamped_and_the_gradient_exact() -> None:
    defence = NRP(small())
    images = torch.rand(1, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(defence, images)
    defence.network.purifier.trunk_conv.bias.data -= 5  # type: ignore[union-attr]
    assert defence(images).max() == 0


@pytest.mark.parametrize("size", ["width", "blocks", "growth", "eps_255", "steps"])
def test_sizes_are_bounded(size: str) -> None:
    for value in (0, 1 << 20):
        with pytest.raises(InputError, match=f"nrp: {size} is {value}"):
            NRPNetwork(**{size: value})
    with pytest.raises(InputError, match="no kind 'unet'; choose from rrdb, residual"):
        NRPNetwork(kind="unet")  # type: ignore[arg-type]
