"""A comparison on a page: accuracies, counts, and the images on which two defences differ."""

from pathlib import Path

import pytest

from impure.manifests.base.errors import InputError
from impure.purifier.evaluation.reports.document_page import page_of_folders
from impure.purifier.evaluation.tables.comparison_report import compare_all, comparison_report
from tests.purifier.evaluation.reports.documents_of_tests import write
from tests.purifier.evaluation.tables.test_comparison import RIGHT, TABLE


def test_accuracies_counts_and_images_are_on_the_page(tmp_path: Path) -> None:
    measured = comparison_report(compare_all(TABLE, ["a", "b"]), {}, ("ant", "bee", "cat"))
    document = measured.document()
    write(tmp_path / "compare.json", document)
    page, _, complaints = page_of_folders([tmp_path])
    assert not complaints and "A: a, B: b, before net" in page
    for row in document["rows"]:
        assert f"{100 * row['difference']:+.1f}<small>{100 * row['low']:+.1f} to " in page
    assert f">{100 * (sum(RIGHT['pgd', 'a']) / 40):.1f}<" in page
    assert page.count(">cat<") >= 1 and "Images that one alone gets right" in page
    assert "net__" not in page  # the image's own name is enough


@pytest.mark.parametrize("row", [{"n": 3}, {"n": 3, "both": -1}, {"n": "many"}])
def test_impossible_counts_are_refused(row: dict[str, object], tmp_path: Path) -> None:
    write(tmp_path / "compare.json", {"kind": "compare", "rows": [row]})
    with pytest.raises(InputError, match="is no count"):
        page_of_folders([tmp_path])


def test_a_comparison_of_nothing_has_dashes(tmp_path: Path) -> None:
    counts = dict.fromkeys(("n", "both", "only_first", "only_second", "neither"), 0)
    write(tmp_path / "compare.json", {"kind": "compare", "rows": [{**counts, "p": "low"}]})
    assert page_of_folders([tmp_path])[0].count(">–<") >= 4
