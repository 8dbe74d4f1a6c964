"""Reports for narrow places: terminals of 80 columns, small windows; and what they say of themselves."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from impure.purifier.evaluation.measure import Evaluation
from impure.purifier.evaluation.reports.report_table import chosen_note, table, terminal_table
from impure.purifier.evaluation.scores import Row, wilson
from impure.purifier.evaluation.select import select_groups
from impure.purifier.evaluation.tables.table1_files import markdown, write_report
from impure.purifier.evaluation.tables.table1_page import html
from tests.purifier.conftest import Brightness, write_collection


def evaluation_of(defences: Sequence[str], clean: int = 7) -> Evaluation:
    """Seven images of each attack, of which the defences get two, three, … right."""
    rows = [
        Row(target="resnet101", attack=attack, defence=name, n=7, correct=right)
        for attack in ("clean", "fgsm", "apgd-dlr")
        for name, right in zip(defences, (clean if attack == "clean" else 2, *range(3, 20)), strict=False)
    ]
    return Evaluation(rows=tuple(rows), examples=(), conditions={"samples": 1, "combine": "one"})


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("width", [40, 80, 120])
def test_terminal_tables_fit_and_lose_no_column(count: int, width: int) -> None:
    names = ["none", "riae:runs/a", "riae:runs/b", "riae:a-long-name/best"][:count]
    evaluation = evaluation_of(names)
    text = terminal_table(evaluation, width)
    widest = len("| mean of attacks |   n | riae:a-long-name/best |")  # one column alone
    assert max(map(len, text.splitlines())) <= max(width, widest)
    assert all(text.count(f" {name} ") == 1 for name in names)
    assert text == table(evaluation) or table(evaluation).index("\n") > width


def test_clean_images_are_said_to_be_chosen_where_they_are() -> None:
    said = chosen_note(evaluation_of(["none", "riae"]))
    assert "its 100 on clean ones is by choice" in said
    assert said in markdown(evaluation_of(["none", "riae"]), "7 images")
    assert said in html(evaluation_of(["none", "riae"]), "7 images")
    assert not chosen_note(evaluation_of(["none", "riae"], clean=6)) and not chosen_note(
        evaluation_of(["riae"])
    )


def test_the_page_has_a_bar_and_an_interval_for_each_cell_and_no_fixed_width() -> None:
    page = html(evaluation_of(["none", "riae"]), "7 images")
    assert page.count('class="bar c') == page.count('class="whisker"') == 6
    assert re.findall(r'class="bar c\d" width="([\d.]+)%', page)[:2] == ["100.0", "42.9"]
    assert "28.6<small>8.2–64.1</small>" in page and page.count("28.6</td>") == 1  # the mean
    assert "nowrap" not in page[page.index("th, td {") :].split("}")[0]


def test_files_hold_no_digits_that_say_nothing(tmp_path: Path) -> None:
    write_report(evaluation_of(["none", "riae"]), tmp_path, images="7 images")
    document = json.loads((tmp_path / "report.json").read_text())
    assert document["rows"][2]["accuracy"] == 0.285714 and document["means"][0]["accuracy"] == 0.285714
    assert all(len(number) <= 8 for number in re.findall(r"\d\.\d+", (tmp_path / "report.csv").read_text()))
    assert wilson(7, 7)[1] == 1 and wilson(0, 7)[0] == 0


def test_each_row_of_strips_shows_another_photograph(tmp_path: Path) -> None:
    shards = write_collection(tmp_path, attacks=("fgsm", "pgd"), count=6)
    groups = select_groups(shards, {"toy": Brightness()})
    assert [group.shown for group in groups] == [0, 2, 4]
    assert len({group.pairs[group.shown].clean_sha256 for group in groups}) == 3
