"""Two classifiers on the same images: McNemar's test and an interval of the difference."""

from math import comb, sqrt

import numpy as np
from numpy.typing import NDArray

from impure.purifier.evaluation.scores import Z_95


def mcnemar(first_only: int, second_only: int) -> float:
    """Exact two-sided p-value of McNemar's test (1947): equal chances of the two kinds of disagreement.

    Args:
        first_only: Images that the first is right on, and the second wrong.
        second_only: The other way round.
    """
    disagreements = first_only + second_only
    fewer = sum(comb(disagreements, count) for count in range(min(first_only, second_only) + 1))
    return min(1.0, float(2 * fewer / 2**disagreements))


def p_text(p: float) -> str:
    """A p-value for people."""
    return "<0.0001" if p < 1e-4 else f"{p:.4f}"


def paired_interval(differences: NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of the mean of paired differences, by two images more, one for either side.

    With one attack this is the interval of Bonett and Price (2012, J. Educ. Behav. Stat. 37, 479-488, their
    adjusted Wald interval). With several an image's difference is its mean over them, since the attacks on
    one image are no independent draws.

    Args:
        differences: Of each image (n,), n at least 1, between -1 (only the first is right) and 1.
    """
    adjusted = np.append(differences, (-1.0, 1.0))
    centre = float(adjusted.mean())
    half = Z_95 * float(adjusted.std()) / sqrt(len(adjusted))
    return max(centre - half, -1.0), min(centre + half, 1.0)
