"""Table 2 has a line for each defence and loses no column in a narrow terminal."""

from dataclasses import replace

import pytest

from impure.purifier.evaluation.measure import Evaluation
from impure.purifier.evaluation.tables.all_defences import table2, terminal_table2
from impure.purifier.evaluation.tables.defence_rows import numbers_of_images
from tests.purifier.evaluation.tables.evaluations import evaluation_of


@pytest.fixture
def evaluation() -> Evaluation:
    return evaluation_of(
        ("clean", "fgsm", "pgd"), {"none": (10, 2, 0), "jpeg": (9, 4, 3), "riae:runs/a": (8, 7, 6)}
    )


def test_rows_are_defences_and_columns_attacks(evaluation: Evaluation) -> None:
    measured = table2(evaluation, "toy, 10-way")
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in measured.table.splitlines()]
    assert [line for number, line in enumerate(lines) if number != 1] == [
        ["net", "clean", "fgsm", "pgd", "mean"],
        ["none", "100.0", "20.0", "0.0", "10.0"],
        ["jpeg", "90.0", "40.0", "30.0", "35.0"],
        ["riae:runs/a", "80.0", "70.0", "60.0", "65.0"],
    ]
    document = measured.document()
    assert document["kind"] == "table2" and document["conditions"]["images"] == "toy, 10-way"
    assert len(document["rows"]) == 9 and {"wilson95_low", "wilson95_high"} <= document["rows"][0].keys()
    assert [mean["accuracy"] for mean in document["means"]] == [0.1, 0.35, 0.65]
    assert document["classes"] == document["confusions"] == []
    page = measured.markdown()
    assert "Each figure is of 10 images." in page and "its 100 on clean ones is by choice" in page


def test_numbers_of_images_are_told_where_they_differ(evaluation: Evaluation) -> None:
    rows = [replace(row, n=7, correct=0) if row.attack == "pgd" else row for row in evaluation.rows]
    assert numbers_of_images(rows) == "Numbers of images: clean 10, fgsm 10, pgd 7."


@pytest.mark.parametrize("width", [40, 80])
def test_a_narrow_terminal_gets_the_table_in_pieces(evaluation: Evaluation, width: int) -> None:
    text = terminal_table2(evaluation, width)
    assert max(map(len, text.splitlines())) <= width
    assert all(text.count(f" {name} ") == 1 for name in ("clean", "fgsm", "pgd", "mean"))
    assert text.count("riae:runs/a") == text.count("| net ") == (1 if width == 80 else 2)


def test_of_clean_images_alone_there_is_no_mean() -> None:
    assert "mean" not in table2(evaluation_of(("clean",), {"none": (10,)}), "toy").table
