"""MagNet against its paper: layers, loss, detectors, thresholds."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from torch import Generator, Tensor, nn

from impure.manifests.base.errors import InputError
from impure.purifier.defences.trained.base.trainable import TrainingImages
from impure.purifier.defences.trained.magnet import MagNet, MagNetNetwork, divergence


def network() -> MagNetNetwork:
    torch.manual_seed(0)
    return MagNetNetwork().double()


def pictures(count: int, seed: int = 0, height: int = 8, width: int = 10) -> Tensor:
    return torch.rand(count, 3, height, width, generator=Generator().manual_seed(seed), dtype=torch.float64)


def classifier(images: Tensor) -> Tensor:
    """Logits by the mean colours: (B, 3)."""
    return 50 * images.mean((2, 3))


def test_the_paper_s_layers() -> None:
    made = MagNetNetwork()
    kinds = {name: [type(layer).__name__ for layer in part] for name, part in made.named_children()}
    assert kinds == {
        "reformer": "Sequential AvgPool2d Sequential Sequential Upsample Sequential Sequential".split(),
        "detector": ["Sequential"] * 3,
    }
    convolutions = [layer for layer in made.modules() if isinstance(layer, nn.Conv2d)]
    assert [(layer.in_channels, layer.out_channels, layer.kernel_size[0]) for layer in convolutions] == [
        (3, 3, 3)
    ] * 8
    assert sum(weight.numel() for weight in made.parameters()) == 8 * (3 * 3 * 9 + 3)
    cifar = MagNetNetwork(width=32, noise=0.025)
    assert sum(weight.numel() for weight in cifar.detector.parameters()) == 896 + 9248 + 867


def test_the_loss_is_each_autoencoder_s_mean_squared_error_on_noisy_images() -> None:
    made, clean = network(), pictures(2)
    images = TrainingImages(torch.full_like(clean, torch.nan), clean, torch.arange(2), torch.full((2,), -1))
    losses = made.losses(images, Generator().manual_seed(5), None)
    noise = torch.randn(clean.shape, generator=Generator().manual_seed(5), dtype=torch.float64)
    noisy = (clean + 0.1 * noise).clamp(0, 1)
    with torch.no_grad():
        errors = [
            np.mean((part(noisy).numpy() - clean.numpy()) ** 2) for part in (made.reformer, made.detector)
        ]
    assert losses.tolist() == pytest.approx([sum(errors), *errors])


def test_divergence_is_jensen_shannon_s() -> None:
    first, second = torch.randn(2, 4, 7, generator=Generator().manual_seed(0), dtype=torch.float64) * 9
    wanted = [jensenshannon(p, q) ** 2 for p, q in zip(first.softmax(1), second.softmax(1), strict=True)]
    assert np.allclose(divergence(first, second), wanted, atol=1e-12)
    assert torch.allclose(divergence(first, first), torch.zeros(4, dtype=torch.float64), atol=1e-12)
    apart = torch.tensor([[1e4, 0.0]])
    assert divergence(apart, apart.flip(1)).item() == pytest.approx(np.log(2))


@torch.no_grad()
def test_scores() -> None:
    made, images = network(), pictures(3)
    scores = MagNet(made).scores(images, classifier)
    for image, row in zip(images, scores, strict=True):
        rebuilt, reformed = made.detector(image[None])[0], made.reform(image[None])[0]
        p, q = ((50 * x.mean((1, 2)) / 10).softmax(0) for x in (image, reformed))
        assert row[0].item() == pytest.approx((rebuilt - image).abs().mean().item())
        assert row[1].item() == pytest.approx((reformed - image).square().mean().item())
        assert row[2].item() == pytest.approx(jensenshannon(p, q) ** 2)
        assert 0 < row[3] < row[2]  # a higher temperature softens


@torch.no_grad()
def test_thresholds_are_quantiles_on_clean_images() -> None:
    defence, clean = MagNet(network(), false_positives=0.05), pictures(100, height=4, width=4)
    with pytest.raises(InputError, match="no thresholds yet"):
        defence.rejects(clean, classifier)
    defence.calibrate(clean.split(32), classifier)
    scores = defence.scores(clean, classifier)
    thresholds = scores.sort(0).values[-5]
    assert torch.equal(defence.rejects(clean, classifier), (scores >= thresholds).any(1))
    assert 5 <= defence.rejects(clean, classifier).sum() <= 20
    black = torch.zeros(1, 3, 4, 4, dtype=torch.float64)  # far from the rest
    assert defence.rejects(black, classifier).tolist() == [True]
    rare = MagNet(network(), false_positives=0.0)
    rare.calibrate([clean], classifier)
    assert 1 <= rare.rejects(clean, classifier).sum() <= 4  # the extreme of each detector


def test_any_size_is_reformed() -> None:
    made = network()
    assert made.reform(pictures(1, height=1, width=7)).shape == (1, 3, 1, 7)
    even = pictures(1)
    assert torch.equal(MagNet(made)(even), made.reformer(even))


def test_sizes_have_bounds() -> None:
    for sizes in ({"width": 10**6}, {"noise": -0.1}):
        with pytest.raises(InputError, match=f"magnet: {next(iter(sizes))} is"):
            MagNetNetwork(**sizes)
    with pytest.raises(InputError, match="false_positives is 1.0"):
        MagNet(network(), false_positives=1.0)
