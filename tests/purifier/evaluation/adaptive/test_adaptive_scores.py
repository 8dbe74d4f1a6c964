"""Aggregations of draws against independent computations."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import binomtest

from impure.manifests.base.errors import InputError
from impure.purifier.evaluation.adaptive.adaptive_scores import Accuracy, Verdicts
from impure.purifier.evaluation.adaptive.cell_results import correctness


def table(predictions: list[list[int]], labels: list[int]) -> pa.Table:
    return pa.table({"predictions": predictions, "label": pa.array(labels, pa.int32())})


def test_mean_worst_and_vote_against_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    predictions, labels = rng.integers(0, 3, (40, 5)), rng.integers(0, 3, 40)
    found = Verdicts.of(table(predictions.tolist(), labels.tolist()))
    for index, (drawn, label) in enumerate(zip(predictions.tolist(), labels.tolist(), strict=True)):
        assert found.share[index] == pytest.approx(sum(each == label for each in drawn) / 5)
        assert found.worst[index] == all(each == label for each in drawn)
        most = max(Counter(drawn).values())
        assert found.vote[index] == (min(c for c, n in Counter(drawn).items() if n == most) == label)


def test_the_least_over_attacks_is_per_image() -> None:
    one = Verdicts.of(table([[1, 1], [1, 0]], [1, 1]))
    other = Verdicts.of(table([[1, 0], [1, 1]], [1, 1]))
    least = one.least(other)
    assert least.share.tolist() == [0.5, 0.5] and not least.worst.any()


def test_rows_of_different_numbers_of_draws_are_refused() -> None:
    with pytest.raises(InputError, match="different numbers of draws"):
        correctness(table([[1], [1, 0]], [1, 1]))


def test_intervals_are_wilsons() -> None:
    predictions = np.random.default_rng(1).integers(0, 2, (37, 3))
    accuracy = Accuracy.of(Verdicts.of(table(predictions.tolist(), [1] * 37)))
    for verdict, (low, high) in accuracy.intervals.items():
        right = round(getattr(accuracy, verdict) * 37)
        wanted = binomtest(right, 37).proportion_ci(method="wilson")
        assert (low, high) == pytest.approx((wanted.low, wanted.high), abs=1e-12)


def test_first_draws_alone_can_be_counted() -> None:
    rows = table([[1, 1, 0], [0, 1, 1]], [1, 1])
    assert Verdicts.of(rows, 2).worst.tolist() == [True, False] == Verdicts.of(rows, 1).worst.tolist()
    assert not Verdicts.of(rows).worst.any()


def test_level_is_a_point_or_an_image_or_chance() -> None:
    base = Verdicts.of(table([[1]] * 200, [1] * 200))
    for wrong, is_level in ((2, True), (12, False)):
        other = Verdicts.of(table([[0]] * wrong + [[1]] * (200 - wrong), [1] * 200))
        assert base.is_level_with(other) == is_level == other.is_level_with(base)
