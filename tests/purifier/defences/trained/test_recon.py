"""The reconstruction network's layers, and its loss against an independent computation."""

import pytest
import torch
from torch import nn

from impure.purifier.defences.static.random_resize import RandomResize
from impure.purifier.defences.trained.base.trainable import TrainingImages
from impure.purifier.defences.trained.recon import Recon, ReconstructionNetwork


def test_layers_and_parameters() -> None:
    with torch.device("meta"):
        network = ReconstructionNetwork()
        assert network(torch.rand(1, 3, 30, 40)).shape == (1, 3, 30, 40)
    layers = [
        (layer.in_channels, layer.out_channels, layer.kernel_size[0])
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d)
    ]
    assert layers[0] == (3, 64, 9) and layers[1:34] == [(64, 64, 3)] * 33
    assert layers[34:] == [(64, 256, 3), (256, 256, 3), (256, 3, 9)]
    kernels = sum(before * after * side**2 for before, after, side in layers)
    biases, norms, slopes = 64 + 256 + 256 + 3, 2 * 64 * 33, 16 + 3
    count = sum(weight.numel() for weight in network.parameters())
    assert count == kernels + biases + norms + slopes == 2_036_374


def test_the_shallow_maps_are_added_to_the_deep_ones() -> None:
    network, images = ReconstructionNetwork(width=2, blocks=2).eval(), torch.rand(1, 3, 9, 12)
    nn.init.zeros_(network.merge[1].weight)  # type: ignore[arg-type]
    with torch.no_grad():
        rebuilt = (network.tail(network.head(2 * images - 1)) + 1) / 2
        assert torch.allclose(network(images), rebuilt)
        block, maps = network.residual[0], torch.rand(1, 2, 5, 5)
        nn.init.zeros_(block.layers[4].weight)  # type: ignore[union-attr, index, arg-type]
        assert torch.allclose(block(maps), maps)


@torch.no_grad()
def test_resized_and_padded_at_random_as_random() -> None:
    network, images = ReconstructionNetwork(width=2, blocks=1), torch.rand(2, 3, 26, 30)
    plain, defence, random = Recon(network, resize=False), Recon(network), RandomResize()
    rebuilt = plain(images)
    assert torch.allclose(rebuilt, network(images).clamp(0, 1)) and not plain.is_random
    for seed in (3, 4):
        defence.reseed(seed)
        random.reseed(seed)
        shown = defence(images)
        assert torch.equal(shown, random(rebuilt)) and shown.shape[2:] == (29, 33)


def test_loss_is_the_squared_distance_of_features() -> None:
    network = ReconstructionNetwork(width=2, blocks=1).double().eval()
    images = TrainingImages(
        torch.rand(3, 3, 8, 8).double(),
        torch.rand(2, 3, 8, 8).double(),
        torch.tensor([1, 1, 0]),
        torch.zeros(3),
    )
    (loss,) = network.losses(images, torch.Generator(), lambda images: [3 * images.flatten(1)])
    rebuilt = network(images.adversarial).detach().numpy()
    squares = [
        (3 * (rebuilt[row] - images.clean[clean_row].numpy())) ** 2 for row, clean_row in enumerate((1, 1, 0))
    ]
    assert loss.item() == pytest.approx(sum(square.sum() for square in squares) / 3, rel=1e-12)
    loss.backward()
    assert all(weight.grad is not None for weight in network.parameters())
