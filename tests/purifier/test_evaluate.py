import csv
import json
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from impure.manifests.collection import Committed
from impure.manifests.errors import InputError
from impure.purifier.defences import Defence, build_defences
from impure.purifier.evaluate import Evaluation, evaluate, wilson
from impure.purifier.report import data_uri, html, table, write_report

from .conftest import Brightness, small_riae, write_collection

CPU = torch.device("cpu")


class Invert(Defence):
    """Undoes the toy attack; spoils clean images."""

    def forward(self, images: Tensor) -> Tensor:
        return 1 - images


@pytest.fixture(scope="module")
def evaluation(units: list[Committed]) -> Evaluation:
    defences = {**build_defences(["none", "jpeg"]), "invert": Invert()}
    return evaluate(units, {"toy": Brightness()}, defences, batch_size=4, device=CPU)


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.277533),
        (5, 10, 0.236593, 0.763407),
        (10, 10, 0.722467, 1.0),
        (81, 263, 0.255289, 0.366210),  # Newcombe 1998, Table I: 0.2553 to 0.3662
    ],
)
def test_wilson_known_values(correct: int, n: int, low: float, high: float) -> None:
    assert wilson(correct, n) == pytest.approx((low, high), abs=2e-6)


def test_wilson_refuses_nonsense() -> None:
    for correct, n in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(InputError):
            wilson(correct, n)


def test_table_one_block(evaluation: Evaluation) -> None:
    found = {(row.attack, row.defence): (row.correct, row.n) for row in evaluation.rows}
    assert found == {
        ("clean", "none"): (6, 6),
        ("clean", "jpeg"): (6, 6),
        ("clean", "invert"): (0, 6),
        ("fgsm", "none"): (0, 6),
        ("fgsm", "jpeg"): (0, 6),
        ("fgsm", "invert"): (6, 6),
        ("pgd", "none"): (0, 6),
        ("pgd", "jpeg"): (0, 6),
        ("pgd", "invert"): (6, 6),
    }
    means = {mean.defence: (mean.accuracy, mean.attacks) for mean in evaluation.means}
    assert means == {"none": (0.0, 2), "jpeg": (0.0, 2), "invert": (1.0, 2)}
    assert evaluation.conditions["draws"] == 1 and evaluation.conditions["splits"] == ["train"]


def test_random_defence_is_seeded(tmp_path: Path) -> None:
    units = write_collection(tmp_path, attacks=("pgd",), sizes=((16, 16), (8, 12)))
    defences = build_defences(["riae"], small_riae())
    runs = [evaluate(units, {"toy": Brightness()}, defences, device=CPU, seed=seed) for seed in (1, 1, 2)]
    shown = [run.examples[1].images["riae"] for run in runs]
    assert (shown[0] == shown[1]).all() and (shown[0] != shown[2]).any()
    assert runs[0].rows == runs[1].rows


def test_attacks_stand_in_the_papers_order(tmp_path: Path) -> None:
    units = write_collection(tmp_path, attacks=("zoo", "apgd-ce", "clean", "fgsm", "cw"), count=1)
    found = evaluate(units, {"toy": Brightness()}, build_defences(["none"]), device=CPU)
    assert [row.attack for row in found.rows] == ["clean", "fgsm", "cw", "apgd-ce", "zoo"]


def test_targets_must_be_there(units: list[Committed]) -> None:
    with pytest.raises(InputError, match="of target 'toy'; given are other"):
        evaluate(units, {"other": Brightness()}, build_defences(["none"]), device=CPU)
    with pytest.raises(InputError, match="nothing to evaluate"):
        evaluate([], {}, {}, device=CPU)


def test_reports(evaluation: Evaluation, tmp_path: Path) -> None:
    files = write_report(evaluation, tmp_path / "report", images="toy, 2-way", classes=("dark", "bright"))
    assert [path.name for path in files] == ["report.md", "report.csv", "report.json", "report.html"]
    lines = table(evaluation).splitlines()
    assert lines[0].split() == ["|", "toy", "|", "n", "|", "none", "|", "jpeg", "|", "invert", "|"]
    assert "| 100.0 [61.0, 100.0] |" in lines[2] and len({len(line) for line in lines}) == 1
    assert table(evaluation) in files[0].read_text()
    rows = list(csv.DictReader(files[1].read_text().splitlines()))
    assert len(rows) == 9 and float(rows[0]["wilson95_low"]) == pytest.approx(0.609666, abs=1e-6)
    document = json.loads(files[2].read_text())
    assert document["conditions"]["images"] == "toy, 2-way" and len(document["means"]) == 3
    page = files[3].read_text()
    assert page.count("data:image/png;base64,") == 5 + 2 * 7  # clean alone has no perturbation
    assert "✗ bright" in page


def test_page_needs_nothing_else(evaluation: Evaluation) -> None:
    page = html(evaluation, "toy")
    references = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)""", page)
    assert references and all(each.startswith("data:image/png;base64,") for each in references)
    assert "<script" not in page and "@import" not in page
    assert "prefers-color-scheme: dark" in page and 'name="viewport"' in page


def test_page_escapes_hostile_names(tmp_path: Path) -> None:
    units = write_collection(tmp_path, key="<script>alert(1)<|script>{index}", count=2)
    evaluation = evaluate(units, {"toy": Brightness()}, build_defences(["none"]), device=CPU)
    page = html(evaluation, "<img src=http://evil>", classes=('<b onload="x">', "<i>"))
    assert "<script>" not in page and "<b onload" not in page and "<img src=http" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_images_survive_the_page(evaluation: Evaluation) -> None:
    assert data_uri(evaluation.examples[0].images["clean"]) in html(evaluation, "toy")
