import csv
import json
from pathlib import Path

from impure.purifier.evaluation.figures.plot_style import figure
from impure.purifier.evaluation.kind_files import Measured, write_measured

MEASURED = Measured(
    kind="fig0",
    title="A figure",
    notes=("Of nothing.",),
    table="| a |",
    rows=({"attack": "pgd", "n": 3}, {"attack": "cw", "n": 4}),
    conditions={"batch_size": 2, "software": ["torch 2", "numpy 2"]},
)


def test_a_measurement_is_written_beside_its_plots(tmp_path: Path) -> None:
    paths = write_measured(MEASURED, tmp_path / "out", {"pgd": figure(1, 1)})
    assert [path.name for path in paths] == [
        "fig0.json", "fig0.md", "fig0.csv", "fig0-pgd.svg", "fig0-pgd.png",
    ]  # fmt: skip
    document = json.loads(paths[0].read_text())
    assert list(document) == ["kind", "title", "notes", "conditions", "rows"] and document["kind"] == "fig0"
    page = paths[1].read_text()
    assert page.startswith(
        "# A figure\n\nOf nothing.\n\n| a |\n\n![fig0-pgd](fig0-pgd.svg)\n\n- batch size: 2\n"
    )
    assert page.endswith("- software: torch 2, numpy 2\n")
    assert [row["n"] for row in csv.DictReader(paths[2].read_text().splitlines())] == ["3", "4"]


def test_nothing_is_written_over_another_of_its_kind(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "fig9.json").write_text("{}")  # of another kind: they share the folder
    folders = [write_measured(MEASURED, tmp_path / "out")[0].parent.name for _ in range(3)]
    assert folders == ["out", "out-2", "out-3"]
