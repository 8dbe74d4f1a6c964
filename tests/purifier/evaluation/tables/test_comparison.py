"""Paired comparison: counts, pairing by pixels, and which images differ."""

from itertools import product

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import binomtest

from impure.manifests.base.errors import InputError
from impure.purifier.evaluation.tables.comparison import ALL, compare
from impure.purifier.evaluation.tables.comparison_report import (
    compare_all,
    comparison_report,
    terminal_comparison,
)
from tests.purifier.evaluation.tables.evaluations import answers

RNG = np.random.default_rng(0)
RIGHT = {cell: (RNG.random(40) < 0.6).tolist() for cell in product(("clean", "pgd", "cw"), "ab")}
TABLE = pa.concat_tables(
    [answers(defence, right, attack=attack) for (attack, defence), right in RIGHT.items()]
)


def test_counts_and_tests_are_those_of_a_plain_loop() -> None:
    rows, differing = compare(TABLE, "a", "b")
    assert [row.attack for row in rows] == ["clean", "pgd", "cw", ALL]
    for row in rows[:3]:
        pairs = list(zip(RIGHT[row.attack, "a"], RIGHT[row.attack, "b"], strict=True))
        counts = [pairs.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False))]
        assert [row.both, row.only_first, row.only_second, row.neither] == counts and row.n == 40
        assert row.p == pytest.approx(binomtest(counts[1], counts[1] + counts[2]).pvalue)
        assert (
            row.difference == pytest.approx((counts[2] - counts[1]) / 40)
            and row.low < row.difference < row.high
        )
    assert len(differing) == sum(row.only_first + row.only_second for row in rows[:3])


def test_all_attacks_count_photographs_once_and_leave_clean_out() -> None:
    row = compare(TABLE, "a", "b")[0][-1]
    sums = sum(
        np.array(RIGHT[attack, "b"], int) - np.array(RIGHT[attack, "a"], int) for attack in ("pgd", "cw")
    )
    assert (row.n, row.images) == (80, 40)
    assert (row.first_ahead, row.second_ahead) == ((sums < 0).sum(), (sums > 0).sum())
    assert row.p == pytest.approx(binomtest(row.first_ahead, row.first_ahead + row.second_ahead).pvalue)
    assert row.difference == pytest.approx(sums.mean() / 2, abs=1e-6)


def test_only_the_same_pixels_are_paired_whatever_their_order() -> None:
    first = answers("a", [True, True, False, True])
    second = answers("b", [True, False, False, True]).take([3, 1, 0, 2])
    moved = answers("b", [True], key="net__pgd__3", pixels="others")  # the attack gave other bytes
    rows, differing = compare(pa.concat_tables([first, second.slice(1), moved]), "a", "b")
    assert (rows[0].n, rows[0].both, rows[0].only_first, rows[0].neither) == (3, 1, 1, 1)
    assert [(pair[0].key, pair[1].predicted) for pair in differing] == [("net__pgd__1", 9)]
    (comparison,) = compare_all(pa.concat_tables([first, second.slice(1), moved]), ["a", "b"])
    assert comparison.unpaired == 2
    assert "2 answers have no counterpart" in terminal_comparison(comparison, 80)
    with pytest.raises(InputError, match="a and b were shown no image in common"):
        compare(pa.concat_tables([first, moved]), "a", "b")


def test_a_clean_image_is_the_same_whichever_sample_holds_it() -> None:
    first = answers("a", [True, False], attack="clean")
    second = answers("b", [True, True], attack="clean", key="of another attack")
    assert compare(pa.concat_tables([first, second]), "a", "b")[0][0].n == 2


def test_the_report_names_the_images_and_who_is_right() -> None:
    third = answers("c", [True] * 40)
    comparisons = compare_all(pa.concat_tables([TABLE, third]), ["a", "b", "c"])
    measured = comparison_report(comparisons, {"images": "toy"}, ("ant", "bee", "cat"), "compare-strips.png")
    document = measured.document()
    assert {(row["first"], row["second"]) for row in document["rows"]} == {("a", "b"), ("a", "c")}
    differing = document["differing"]
    assert all(row["right"] in (row["first"], row["second"]) for row in differing)
    wrong = next(row for row in differing if row["right"] == "a" and row["second"] == "b")
    assert wrong["first_class"] == wrong["class"] != wrong["second_class"] == "9"
    page = measured.markdown()
    assert "](compare-strips.png)" in page and "B alone is right:" in page and "- and " in page
    assert "compare-differing.csv" in measured.tables()


def test_a_narrow_terminal_loses_no_column() -> None:
    (comparison,) = compare_all(TABLE, ["a", "b"])
    text = terminal_comparison(comparison, 60)
    assert max(len(line) for line in text.splitlines() if line.startswith("|")) <= 60
    assert all(f" {name} " in text for name in ("B - A", "both", "only A", "only B", "neither"))
    assert text.startswith("A: a. B: b.")
