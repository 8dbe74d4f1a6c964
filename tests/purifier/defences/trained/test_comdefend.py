"""ComDefend against its paper: layers, loss, bits, their gradient, patches."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Generator, Tensor, nn

from impure.manifests.base.errors import InputError
from impure.purifier.defences.trained.base.trainable import TrainingImages
from impure.purifier.defences.trained.comdefend import (
    ComDefend,
    ComDefendNetwork,
    binarise,
    from_patches,
    to_patches,
)

COM = (3, 16, 32, 64, 128, 256, 128, 64, 32, 12)  # Table 1
REC = (12, 32, 64, 128, 256, 128, 64, 32, 16, 3)  # Table 2


def small(seed: int = 0) -> ComDefendNetwork:
    """A network whose codes have both signs."""
    torch.manual_seed(seed)
    network = ComDefendNetwork(width=1).double()
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(2)
    return network.eval()


def pictures(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=Generator().manual_seed(0), dtype=torch.float64)


def test_the_paper_s_layers() -> None:
    with torch.device("meta"):
        network = ComDefendNetwork()
    for part, channels in ((network.com, COM), (network.rec, REC)):
        convolutions = [layer for layer in part if isinstance(layer, nn.Conv2d)]
        assert [layer.in_channels for layer in convolutions] == list(channels[:-1])
        assert [layer.out_channels for layer in convolutions] == list(channels[1:])
        assert all(layer.kernel_size == (3, 3) for layer in convolutions)
        assert [type(layer) for layer in part][1::2] == [nn.ELU] * 8  # none behind the last
    count = sum(
        9 * a * b + b for channels in (COM, REC) for a, b in zip(channels, channels[1:], strict=False)
    )
    assert sum(weight.numel() for weight in network.parameters()) == count == 1_566_735


def test_the_loss_in_float64() -> None:
    network, clean = small(), pictures(2, 3, 32, 64)
    images = TrainingImages(torch.full_like(clean, torch.nan), clean, torch.arange(2), torch.full((2,), -1))
    loss, distance, length = network.losses(images, Generator().manual_seed(3), None).tolist()
    with torch.no_grad():
        patches = torch.stack([clean[b, :, :, 32 * n : 32 * n + 32] for b in (0, 1) for n in (0, 1)])
        code = network.com(patches - 0.5)
        noise = torch.randn(code.shape, generator=Generator().manual_seed(3), dtype=torch.float64)
        bits = 1 / (1 + (20.0 * noise - code).exp())
        rebuilt = 1 / (1 + (-network.rec(bits)).exp())
    assert length == pytest.approx((bits**2).mean().item())
    assert distance == pytest.approx(((rebuilt - patches) ** 2).mean().item())
    assert loss == pytest.approx(distance + 1e-4 * length)


def test_bits_and_what_their_gradient_is() -> None:
    code = torch.tensor([-30.0, -1e-9, 0.0, 0.5, 60.0], dtype=torch.float64, requires_grad=True)
    bits = binarise(code, 20.0)
    assert bits.tolist() == [0, 0, 0, 1, 1]
    bits.sum().backward()
    assert code.grad is not None and np.allclose(code.grad, norm.pdf(code.detach(), scale=20))


def test_the_gradient_is_exact_but_for_the_bits() -> None:
    network, images = small(), pictures(1, 3, 32, 32).requires_grad_()
    weight = pictures(1, 3, 32, 32)
    (gradient,) = torch.autograd.grad((ComDefend(network)(images) * weight).sum(), images)
    bits = (network.code(images.detach()) > 0).double().requires_grad_()
    (at_bits,) = torch.autograd.grad((network.rebuild(bits) * weight).sum(), bits)
    code = network.code(images)
    density = torch.exp(-0.5 * (code / 20) ** 2) / (20 * math.sqrt(2 * math.pi))
    (wanted,) = torch.autograd.grad(code, images, at_bits * density.detach())
    assert gradient.any() and torch.allclose(gradient, wanted)


@torch.no_grad()
def test_patches_are_coded_by_themselves() -> None:
    images = pictures(2, 3, 64, 96)
    patches = to_patches(images)
    assert torch.equal(patches[4], images[0, :, 32:, 32:64])
    assert torch.equal(from_patches(patches, 64, 96), images)
    defence = ComDefend(small())
    corner = defence(images)[:, :, :32, :32]
    assert torch.equal(corner, defence(images[:, :, :32, :32]))
    assert defence(images[..., :33, :70]).shape == (2, 3, 33, 70)


@torch.no_grad()
def test_bgr_swaps_red_and_blue_for_the_network_alone() -> None:
    network, images = small(), pictures(1, 3, 32, 32)
    swapped = ComDefend(network, bgr=True)(images)
    assert torch.equal(swapped, ComDefend(network)(images[:, [2, 1, 0]])[:, [2, 1, 0]])
    assert not torch.equal(swapped, ComDefend(network)(images))


def test_sizes_have_bounds() -> None:
    for sizes in ({"width": 0}, {"width": 10**6}, {"noise": 0.0}, {"penalty": -1.0}):
        with pytest.raises(InputError, match=f"comdefend: {next(iter(sizes))} is"):
            ComDefendNetwork(**sizes)
