"""McNemar's test and the interval for pairs, against scipy and against formulas computed another way."""

import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest, norm

from impure.purifier.evaluation.paired import mcnemar, paired_interval


@pytest.mark.parametrize(("first", "second"), [(0, 0), (3, 3), (0, 5), (12, 4), (40, 61)])
def test_mcnemar_is_the_exact_binomial_test(first: int, second: int) -> None:
    wanted = binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(wanted, abs=1e-12) == mcnemar(second, first)


def test_mcnemar_of_thousands_of_images_does_not_overflow() -> None:
    assert mcnemar(4000, 4300) == pytest.approx(2 * binom.cdf(4000, 8300, 0.5), rel=1e-9)


@pytest.mark.parametrize(("both", "first", "second", "neither"), [(5, 2, 9, 4), (20, 0, 0, 5), (0, 7, 0, 0)])
def test_the_interval_of_one_attack_is_bonett_and_prices(
    both: int, first: int, second: int, neither: int
) -> None:
    n = both + first + second + neither
    rates = (first + 1) / (n + 2), (second + 1) / (n + 2)
    half = norm.ppf(0.975) * math.sqrt((sum(rates) - (rates[1] - rates[0]) ** 2) / (n + 2))
    wanted = [max(rates[1] - rates[0] - half, -1), min(rates[1] - rates[0] + half, 1)]
    differences = np.repeat([0.0, -1.0, 1.0, 0.0], [both, first, second, neither])
    assert paired_interval(differences) == pytest.approx(wanted, abs=1e-12)


def test_the_interval_is_that_of_rs_statpsych() -> None:
    """The documented example of `ci.prop.ps(.05, 12, 4, 26, 6)`: 0.2548067 to 0.6251933."""
    differences = np.repeat([0.0, -1.0, 1.0, 0.0], [12, 4, 26, 6])
    assert paired_interval(differences) == pytest.approx((0.2548067, 0.6251933), abs=1e-6)


def test_the_interval_covers_the_true_difference() -> None:
    """Of 2,000 experiments with dependent answers, 95 % by chance within 1.5 points."""
    rng = np.random.default_rng(0)
    rates = [0.5, 0.1, 0.3, 0.1]  # both, the first alone, the second alone, neither
    counts = rng.multinomial(60, rates, size=2000)
    intervals = [paired_interval(np.repeat([0.0, -1.0, 1.0, 0.0], count)) for count in counts]
    covered = np.mean([low <= 0.2 <= high for low, high in intervals])
    assert 0.935 <= covered <= 0.975


def test_more_attacks_on_the_same_images_are_no_more_images() -> None:
    one = np.array([1.0, 0.0, -1.0, 1.0])
    assert paired_interval(np.stack([one, one, one]).mean(0)) == paired_interval(one)
