"""`impure-eval report` and `leaderboard` on folders of documents."""

import json
from pathlib import Path

from click.testing import CliRunner, Result

from impure.cli import evaluate
from tests.common import one_line
from tests.purifier.evaluation.reports.documents_of_tests import adaptive, table1, write


def run(*words: object) -> Result:
    return CliRunner().invoke(evaluate, [str(word) for word in words])


def test_a_page_of_all_documents_is_never_written_over_another(tmp_path: Path) -> None:
    write(tmp_path / "runs" / "a" / "report.json", table1())
    write(tmp_path / "runs" / "bad.json", {"kind": "magic"})
    for name in ("page.html", "page-2.html"):
        result = run("report", tmp_path / "runs", "--out", tmp_path / "page.html", "--json")
        assert result.exit_code == 0, result.output
        said = json.loads(result.stdout)
        assert said["page"] == str(tmp_path / name) and said["documents"] == 1
        assert "magic" in said["not_shown"][0] and "magic" in result.stderr
        assert "magic" in (tmp_path / name).read_text()
    one_line(run("report", tmp_path / "nowhere"), "no such folder")
    (tmp_path / "empty").mkdir()
    one_line(run("report", tmp_path / "empty"), "no evaluation")


def test_the_leaderboard_is_printed_and_written(tmp_path: Path) -> None:
    write(tmp_path / "runs" / "adaptive.json", adaptive())
    out = tmp_path / "leaderboard.json"
    result = run("leaderboard", tmp_path / "runs", "--out", out)
    assert result.exit_code == 0, result.output
    assert "| 1    |    riae |" in result.stdout
    document = json.loads(out.read_text())
    assert document["kind"] == "leaderboard" and [row["rank"] for row in document["rows"]] == [1]
    page = run("report", tmp_path, "--out", tmp_path / "page.html")
    assert page.exit_code == 0 and page.stdout.startswith("2 documents")
    one_line(run("leaderboard", tmp_path / "nowhere"), "no such folder")
