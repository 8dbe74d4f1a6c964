"""HGD's network against its paper, and its loss against an independent computation."""

import pytest
import torch
from torch import Tensor, nn

from impure.manifests.base.errors import InputError
from impure.purifier.defences.trained.base.trainable import TrainingImages
from impure.purifier.defences.trained.hgd import HGD, DenoisingUNet


def test_parameters_of_the_paper() -> None:
    """64, 128, 256, 256, 256 down with 2, 3, 3, 3, 3 convolutions; 256, 256, 128, 64 up with 3, 3, 3, 2."""

    def convolution(channels_in: int, channels: int) -> int:
        return 9 * channels_in * channels + 2 * channels  # no bias; BatchNorm's scale and shift

    down = [(3, 64), (64, 64)]
    for before, channels in ((64, 128), (128, 256), (256, 256), (256, 256)):
        down += [(before, channels), (channels, channels), (channels, channels)]
    up = []
    for below, lateral in ((256, 256), (256, 256), (256, 128)):
        up += [(below + lateral, lateral), (lateral, lateral), (lateral, lateral)]
    up += [(128 + 64, 64), (64, 64)]
    with torch.device("meta"):
        network = DenoisingUNet()
    count = sum(weight.numel() for weight in network.parameters())
    assert count == sum(convolution(*sides) for sides in down + up) + 3 * 64 == 11_033_984


def test_sizes_on_the_way_down_and_up() -> None:
    with torch.device("meta"):
        network, images = DenoisingUNet(), torch.rand(1, 3, 299, 299)
        seen: list[tuple[int, ...]] = []
        for block in [*network.down, *reversed(network.up)]:
            block.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape[1:])))
        assert network(images).shape == images.shape
    sides, widths = (299, 150, 75, 38, 19), (64, 128, 256, 256, 256)
    down = [(width, side, side) for width, side in zip(widths, sides, strict=True)]
    assert seen == down + down[-2::-1]


def test_the_noise_is_subtracted() -> None:
    defence, images = HGD(DenoisingUNet(width=2, levels=2)), torch.rand(2, 3, 9, 10)
    with torch.no_grad():
        noise = defence.network.predict_noise(2 * images - 1)  # in [-1,1]
        assert torch.allclose(defence(images), (images - noise / 2).clamp(0, 1))
        nn.init.zeros_(defence.network.noise.weight)
        assert torch.equal(defence(images), images)


def test_loss_is_the_l1_distance_of_the_targets_outputs() -> None:
    network = DenoisingUNet(width=2, levels=2).double().eval()
    target = nn.Linear(3 * 64, 5).double().requires_grad_(False)
    images = TrainingImages(
        torch.rand(3, 3, 8, 8).double(),
        torch.rand(2, 3, 8, 8).double(),
        torch.tensor([1, 0, 1]),
        torch.zeros(3),
    )

    def features(images: Tensor) -> list[Tensor]:
        return [target(images.flatten(1)), images.mean(1)]

    (loss,) = network.losses(images, torch.Generator(), features)
    denoised = network(images.adversarial).detach().numpy()
    weight, bias = target.weight.numpy(), target.bias.numpy()
    logits = mean = 0.0
    for row, clean_row in enumerate((1, 0, 1)):
        clean = images.clean[clean_row].numpy()
        logits += abs((denoised[row] - clean).reshape(-1) @ weight.T + 0 * bias).mean() / 3
        mean += abs((denoised[row] - clean).mean(0)).mean() / 3
    assert loss.item() == pytest.approx(logits + mean, rel=1e-12)
    loss.backward()
    assert all(weight.grad is not None for weight in network.parameters())


@pytest.mark.parametrize("sizes", [{"width": 257}, {"levels": 6}, {"levels": 0}])
def test_impossible_sizes(sizes: dict[str, int]) -> None:
    with pytest.raises(InputError, match=f"hgd: {next(iter(sizes))} is"):
        DenoisingUNet(**sizes)
