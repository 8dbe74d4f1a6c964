"""Certificates against SciPy's binomial bounds, and against a classifier whose smoothed form is known."""

from statistics import NormalDist

import pytest
import torch
from torch import Tensor, nn

from impure.manifests.base.errors import InputError
from impure.purifier.defences.diffusion.consistency_purification import ConsistencyPurification
from impure.purifier.defences.diffusion.one_step_denoiser import OneStepDenoiser
from impure.purifier.evaluation.smoothing import (
    Certificate,
    certified_accuracy,
    certify,
    clopper_pearson_lower,
)


@pytest.mark.parametrize(
    ("successes", "trials"), [(1, 10), (5, 10), (10, 10), (990, 1000), (99_990, 100_000)]
)
@pytest.mark.parametrize("alpha", [0.001, 0.05])
def test_the_bound_equals_scipys(successes: int, trials: int, alpha: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    wanted = stats.binomtest(successes, trials, alternative="greater").proportion_ci(1 - alpha, "exact").low
    assert clopper_pearson_lower(successes, trials, alpha) == pytest.approx(wanted, rel=1e-9)
    assert clopper_pearson_lower(0, trials, alpha) == 0


class Untouched(OneStepDenoiser):
    """A denoiser that leaves everything as it is: images are 1 x 1, and never cut off."""

    size = 1

    def denoise(self, noisy: Tensor, sigma: float) -> Tensor:
        return noisy


class Brighter(nn.Module):
    """Class 1 where a grey pixel is brighter than a half."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean((1, 2, 3))
        return torch.stack([0.5 - mean, mean - 0.5], dim=1)


def test_the_radius_is_the_distance_to_a_linear_boundary() -> None:
    """Of a linear classifier, the smoothed one is the same, and its radius the distance."""
    defence, image = ConsistencyPurification(Untouched(), sigma=0.25), torch.full((3, 1, 1), 0.6)
    certificate = certify(defence, Brighter(), image, n0=10, n=20_000, batch_size=5000)
    distance = 0.1 * 3**0.5
    assert certificate.label == 1 and 0.9 * distance < certificate.radius < distance
    bound = clopper_pearson_lower(round(20_000 * NormalDist().cdf(distance / 0.25)), 20_000, 0.001)
    assert certificate.radius == pytest.approx(0.25 * NormalDist().inv_cdf(bound), abs=0.01)


def test_it_abstains_where_no_class_is_sure() -> None:
    defence = ConsistencyPurification(Untouched())
    assert certify(defence, Brighter(), torch.full((3, 1, 1), 0.5), n=100) == Certificate(
        label=None, radius=0
    )


def test_the_seed_decides() -> None:
    defence, image = ConsistencyPurification(Untouched()), torch.full((3, 1, 1), 0.55)
    first, again, other = (certify(defence, Brighter(), image, n=300, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_certified_accuracy() -> None:
    reaches = (1, 0.3), (1, 0.9), (0, 2.0), (None, 0.0)
    certificates = [Certificate(label=label, radius=radius) for label, radius in reaches]
    assert certified_accuracy(certificates, [1, 1, 1, 1], [0, 0.3, 0.5, 1.0]) == [0.5, 0.5, 0.25, 0]


def test_impossible_numbers() -> None:
    with pytest.raises(InputError, match="n0, n and batch_size must be at least 1"):
        certify(ConsistencyPurification(Untouched()), Brighter(), torch.zeros(3, 1, 1), n=0)
