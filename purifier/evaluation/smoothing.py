"""Certified robustness in L2 by randomised smoothing (Cohen et al. 2019, arXiv:1902.02918)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from impure.manifests.base.errors import InputError
from impure.purifier.defences.diffusion.consistency_purification import ConsistencyPurification


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """The smoothed classifier's class of an image, and the L2 radius, in [0, 1] scale, in which it stays so.

    `label` is None where the classifier abstains: no class is sure enough; `radius` is 0 then.
    """

    label: int | None
    radius: float


@torch.no_grad()
def certify(
    defence: ConsistencyPurification,
    classifier: Callable[[Tensor], Tensor],
    image: Tensor,
    *,
    n0: int = 100,
    n: int = 10_000,
    alpha: float = 0.001,
    seed: int = 0,
    batch_size: int = 100,
) -> Certificate:
    """Certify one image (section 3.2.2, `CERTIFY`): with probability 1 - α over the noise, the radius holds.

    The certificate is of the smoothed classifier, the most frequent class of noisy images, each denoised and
    classified.

    Args:
        defence: Adds the noise, and takes it off.
        classifier: Takes [0, 1] images (B, 3, H, W), gives logits.
        image: RGB in [0, 1] (3, H, W).
        n0: Noisy images that choose the class.
        n: Noisy images that count it.
        alpha: Probability of a certificate that does not hold.
        seed: Of the noise.
        batch_size: Noisy images at once.

    Raises:
        InputError: A number is out of its range.
    """
    if min(n0, n, batch_size) < 1 or not 0 < alpha < 1:
        raise InputError("certify: n0, n and batch_size must be at least 1, and alpha between 0 and 1")
    defence.reseed(seed)

    def counts(samples: int) -> Tensor:
        parts = [min(batch_size, samples - start) for start in range(0, samples, batch_size)]
        logits = [classifier(defence(image.expand(part, *image.shape))) for part in parts]
        return torch.cat(logits).argmax(1).bincount(minlength=logits[0].shape[1])

    label = int(counts(n0).argmax())
    lower = clopper_pearson_lower(int(counts(n)[label]), n, alpha)
    if lower <= 0.5:
        return Certificate(label=None, radius=0.0)
    return Certificate(label=label, radius=defence.sigma * NormalDist().inv_cdf(lower))


def certified_accuracy(
    certificates: Sequence[Certificate], labels: Sequence[int], radii: Sequence[float]
) -> list[float]:
    """For each radius, the share of images whose certified class is the true one at least so far away."""
    reach = [
        certificate.radius if certificate.label == label else -1.0
        for certificate, label in zip(certificates, labels, strict=True)
    ]
    return [sum(own >= radius for own in reach) / max(len(reach), 1) for radius in radii]


def clopper_pearson_lower(successes: int, trials: int, alpha: float) -> float:
    """Lower end of the one-sided exact confidence interval of a binomial probability, at level 1 - α.

    The p at which so many successes or more have probability α (Clopper and Pearson 1934), by bisection.
    """
    if successes == 0:
        return 0.0
    many = torch.arange(successes, trials + 1, dtype=torch.float64)
    total = torch.tensor(float(trials), dtype=torch.float64)
    ways = torch.lgamma(total + 1) - torch.lgamma(many + 1) - torch.lgamma(total - many + 1)
    low, high = 0.0, successes / trials
    for _ in range(60):
        middle = torch.tensor((low + high) / 2, dtype=torch.float64)
        log_terms = ways + many * middle.log() + (total - many) * (-middle).log1p()
        if float(log_terms.logsumexp(0).exp()) < alpha:
            low = float(middle)
        else:
            high = float(middle)
    return low
