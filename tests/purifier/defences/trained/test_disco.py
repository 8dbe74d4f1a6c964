"""DISCO: its sizes, its local ensemble against a loop over points, its loss."""

import math

import pytest
import torch
from torch import Tensor

from impure.manifests.base.errors import InputError
from impure.purifier.defences.trained.base.trainable import TrainingImages
from impure.purifier.defences.trained.disco import Disco, DiscoNetwork, local_ensemble


@pytest.fixture
def network() -> DiscoNetwork:
    torch.manual_seed(0)
    return DiscoNetwork(width=4, blocks=1, hidden=6, layers=2).double().eval()


def colour_at(network: DiscoNetwork, features: Tensor, y: float, x: float) -> Tensor:
    """LIIF's definition for one point and one image's features (width, H, W): four codes and areas."""
    _, height, width = features.shape
    top, left = math.floor(y - 0.5), math.floor(x - 0.5)
    total, areas = torch.zeros(3, dtype=torch.float64), 0.0
    for near_y, far_y in ((top, top + 1), (top + 1, top)):
        for near_x, far_x in ((left, left + 1), (left + 1, left)):
            row, column = min(max(near_y, 0), height - 1), min(max(near_x, 0), width - 1)
            code = []
            for channel in range(len(features)):
                for i in (row - 1, row, row + 1):
                    for j in (column - 1, column, column + 1):
                        inside = 0 <= i < height and 0 <= j < width
                        code.append(float(features[channel, i, j]) if inside else 0.0)
            place = [2 * (y - row - 0.5), 2 * (x - column - 0.5), 2.0, 2.0]
            colour = network.imnet.layers(torch.tensor(code + place, dtype=torch.float64))
            opposite = [min(max(far_y, 0), height - 1), min(max(far_x, 0), width - 1)]
            area = abs(2 * (y - opposite[0] - 0.5) * 2 * (x - opposite[1] - 0.5)) + 1e-9
            total, areas = total + area * colour, areas + area
    return total / areas


@torch.no_grad()
def test_the_local_ensemble_is_liifs(network: DiscoNetwork) -> None:
    images = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    features = network.encoder(images * 2 - 1)
    points = torch.tensor(
        [[0.1, 0.2], [1.7, 2.4], [3.9, 4.9], [2.5, 3.0], [2.5, 1.5], [3.5, 1.5], [3.5, 4.5]]
    )
    colours = network.query(network.encode(images), points.double())
    for row, image in enumerate(features):
        for number, (y, x) in enumerate(points.tolist()):
            wanted = colour_at(network, image, y, x)
            assert torch.allclose(colours[row, :, number], wanted, atol=1e-6), (y, x)


@torch.no_grad()
def test_each_pixel_is_asked_at_its_centre_in_chunks(
    network: DiscoNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    rebuilt = network(images)
    features = network.encoder(images * 2 - 1)
    for i in range(4):
        for j in range(5):
            wanted = colour_at(network, features[1], i + 0.5, j + 0.5) / 2 + 0.5
            assert torch.allclose(rebuilt[1, :, i, j], wanted, atol=1e-6), (i, j)
    monkeypatch.setattr("impure.purifier.defences.trained.disco.QUERIES", 6)  # three points of each image
    assert torch.allclose(network(images), rebuilt, atol=1e-12)


def test_weights_sum_to_one_and_the_nearest_code_counts_most() -> None:
    index, offset, weight = local_ensemble(torch.tensor([[1.6, 2.9], [0.0, 0.0], [3.0, 3.0]]), 3, 3)
    assert torch.allclose(weight.sum(0), torch.ones(3))
    assert index[weight[:, 0].argmax(), 0] == 1 * 3 + 2
    assert index[:, 1].tolist() == [0] * 4 and index[:, 2].tolist() == [8] * 4
    assert torch.allclose(offset[0, 0], torch.tensor([0.2, 0.8]))  # code (1, 2) lies at (1.5, 2.5)


def test_the_papers_sizes() -> None:
    with torch.device("meta"):
        network = DiscoNetwork()
    shapes = {name: tuple(weight.shape) for name, weight in network.state_dict().items()}
    assert sum(math.prod(shape) for shape in shapes.values()) == 1_567_299  # the paper's 1.6 M
    assert shapes["imnet.layers.0.weight"] == (256, 64 * 9 + 2 + 2)
    assert shapes["imnet.layers.8.weight"] == (3, 256) and "imnet.layers.10.weight" not in shapes
    assert shapes["encoder.body.15.body.2.weight"] == shapes["encoder.body.16.weight"] == (64, 64, 3, 3)


def test_the_loss_is_the_mean_absolute_difference(network: DiscoNetwork) -> None:
    generator = torch.Generator().manual_seed(1)
    adversarial, clean = (torch.rand(n, 3, 6, 6, dtype=torch.float64, generator=generator) for n in (3, 2))
    images = TrainingImages(adversarial, clean, torch.tensor([1, 0, 1]), torch.zeros(3, dtype=torch.int64))
    (loss,) = network.losses(images, generator, None)
    rebuilt = network(adversarial).detach()
    wanted = sum(float((2 * rebuilt[i] - 2 * clean[j]).abs().sum()) for i, j in enumerate([1, 0, 1]))
    assert math.isclose(loss.item(), wanted / adversarial.numel(), rel_tol=1e-12)
    loss.backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in network.parameters())


def test_the_output_is_clamped_and_the_gradient_exact(network: DiscoNetwork) -> None:
    defence = Disco(network)
    images = torch.rand(1, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(defence, images, atol=1e-4)
    network.imnet.layers[-1].bias.data += 5  # type: ignore[operator,union-attr]
    assert defence(images).max() == 1


@pytest.mark.parametrize("size", ["width", "blocks", "hidden", "layers"])
def test_sizes_are_bounded(size: str) -> None:
    for value in (0, 1 << 20):
        with pytest.raises(InputError, match=f"disco: {size} is {value}"):
            DiscoNetwork(**{size: value})
