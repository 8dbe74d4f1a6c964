"""Predictions of earlier reports are compared without measuring again."""

from pathlib import Path

import pyarrow as pa
import pytest

from impure.manifests.base.errors import InputError
from impure.purifier.evaluation.image_predictions import write_predictions
from impure.purifier.evaluation.tables.measured_before import choose, read_reports
from tests.purifier.evaluation.tables.evaluations import answers


def report(folder: Path, *defences: str, stem: str = "report") -> Path:
    folder.mkdir(exist_ok=True)
    table = pa.concat_tables([answers(defence, [True, False]) for defence in defences])
    write_predictions(folder, stem, table, {"seed": 3}, ("ant", "bee"))
    return folder


def test_names_that_several_reports_have_say_where(tmp_path: Path) -> None:
    one, other = report(tmp_path / "a", "none", "riae"), report(tmp_path / "b", "riae", "jpeg")
    before = read_reports([one, other / "report-predictions.parquet"])
    first, second = f"riae@{one}", f"riae@{other}/report-predictions.parquet"
    assert dict(before.names) == {"none": "none", first: "riae", second: "riae", "jpeg": "jpeg"}
    assert len(before.predictions) == 8 and before.classes == ("ant", "bee")
    assert "seed 3" in before.conditions["reports"][0]
    assert choose(["riae"], before.names) == (first, second)
    assert choose(["jpeg", "none", "jpeg"], before.names) == ("jpeg", "none")
    assert choose([second, "none"], before.names) == (second, "none")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["nrp"], "no 'nrp' in the reports; they hold none, jpeg"),
        (["none"], "name two at least of none, jpeg"),
        ([], "name two at least of none, jpeg"),
    ],
)
def test_names_must_be_there_and_two(asked: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        choose(asked, {"none": "none", "jpeg": "jpeg"})


def test_reports_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no \*-predictions.parquet; measure again"):
        read_reports([tmp_path])
    both = report(report(tmp_path / "a", "none"), "none", stem="table2")
    with pytest.raises(
        InputError, match="holds report-predictions.parquet, table2-predictions.parquet; name one"
    ):
        read_reports([both])
    with pytest.raises(InputError, match="a is named twice"):
        read_reports([both, tmp_path / "b" / ".." / "a"])
    with pytest.raises(InputError, match="not a readable Parquet file"):
        read_reports([tmp_path / "missing.parquet"])
