import csv
import json
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from impure.manifests.base.errors import InputError
from impure.manifests.collection.collection import CommittedShard
from impure.purifier.defences.base.defence import Defence
from impure.purifier.defences.defence_registry import build_defences
from impure.purifier.defences.riae_defence import RIAEDefence
from impure.purifier.defences.static.random_resize import RandomResize
from impure.purifier.evaluation.evaluate_config import EvaluateConfig
from impure.purifier.evaluation.measure import Evaluation, evaluate
from impure.purifier.evaluation.predict import NO_CLASS, predict
from impure.purifier.evaluation.reports.page import png_uri
from impure.purifier.evaluation.reports.report_table import table
from impure.purifier.evaluation.scores import wilson
from impure.purifier.evaluation.select import select_groups
from impure.purifier.evaluation.tables.table1_files import write_report
from impure.purifier.evaluation.tables.table1_page import html
from tests.purifier.conftest import Brightness, small_riae, write_collection

CPU = torch.device("cpu")


def measured(shards: list[CommittedShard], defences: Mapping[str, nn.Module], **values: Any) -> Evaluation:
    return evaluate(shards, {"toy": Brightness()}, defences, EvaluateConfig(**values), device=CPU)


class Invert(Defence):
    """Undoes the toy attack; spoils clean images."""

    def defend(self, images: Tensor) -> Tensor:
        return 1 - images


class Lottery(Defence):
    """Random and nothing else: paints every image grey, dark or bright by chance."""

    def __init__(self) -> None:
        super().__init__()
        self.generator, self.runs = Generator(), 0

    def reseed(self, seed: int) -> None:
        self.generator.manual_seed(seed)

    def defend(self, images: Tensor) -> Tensor:
        self.runs += 1
        return torch.rand(len(images), 1, 1, 1, generator=self.generator).expand_as(images)


class Counted(Invert):
    runs = 0

    def defend(self, images: Tensor) -> Tensor:
        self.runs += 1
        return super().defend(images)


class Broken(Defence):
    """Loses every second image."""

    def defend(self, images: Tensor) -> Tensor:
        return torch.where(torch.arange(len(images)).view(-1, 1, 1, 1) % 2 == 0, images, torch.nan)


@pytest.fixture(scope="module")
def evaluation(shards: list[CommittedShard]) -> Evaluation:
    defences = {**build_defences(["none", "jpeg"]), "invert": Invert()}
    return measured(shards, defences, batch_size=4)


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
    assert {(row.combine, row.samples) for row in evaluation.rows} == {("one", 1)}
    means = {mean.defence: (mean.accuracy, mean.attacks) for mean in evaluation.means}
    assert means == {"none": (0.0, 2), "jpeg": (0.0, 2), "invert": (1.0, 2)}
    assert evaluation.conditions["samples"] == 1 and evaluation.conditions["splits"] == ["train"]


def test_random_defence_is_seeded(tmp_path: Path) -> None:
    shards = write_collection(tmp_path, attacks=("pgd",), sizes=((16, 16), (8, 12)))
    defences = {"riae": RIAEDefence(small_riae())}
    runs = [measured(shards, defences, seed=seed) for seed in (1, 1, 2)]
    shown = [run.examples[1].images["riae"] for run in runs]
    assert (shown[0] == shown[1]).all() and (shown[0] != shown[2]).any()
    assert runs[0].rows == runs[1].rows


def test_attacks_stand_in_the_papers_order(tmp_path: Path) -> None:
    shards = write_collection(tmp_path, attacks=("zoo", "apgd-ce", "clean", "fgsm", "cw"), count=1)
    found = measured(shards, build_defences(["none"]))
    assert [row.attack for row in found.rows] == ["clean", "fgsm", "cw", "apgd-ce", "zoo"]


def test_targets_must_be_there(shards: list[CommittedShard]) -> None:
    with pytest.raises(InputError, match="of target 'toy'; given are other"):
        evaluate(shards, {"other": Brightness()}, build_defences(["none"]), EvaluateConfig(), device=CPU)
    with pytest.raises(InputError, match="nothing to evaluate"):
        measured(shards, {})
    with pytest.raises(InputError, match="nothing to evaluate: the chosen shards"):
        evaluate([], {}, build_defences(["none"]), EvaluateConfig(), device=CPU)


def test_reports(evaluation: Evaluation, tmp_path: Path) -> None:
    files = write_report(evaluation, tmp_path / "report", images="toy, 2-way", classes=("dark", "bright"))
    assert [path.name for path in files] == [
        "report.md", "report.csv", "report.json", "report.html", "report-classes.csv",
        "report-confusions.csv", "report-predictions.parquet", "report-accuracy-toy.svg",
        "report-accuracy-toy.png", "report-strips-toy.png",
    ]  # fmt: skip
    lines = table(evaluation).splitlines()
    assert lines[0].split() == ["|", "toy", "|", "n", "|", "none", "|", "jpeg", "|", "invert", "|"]
    assert "| 100.0 [61.0, 100.0] |" in lines[2] and len({len(line) for line in lines}) == 1
    assert table(evaluation) in files[0].read_text()
    rows = list(csv.DictReader(files[1].read_text().splitlines()))
    assert list(rows[0])[:3] == ["target", "attack", "defence"] and list(rows[0])[-3:] == [
        "combine",
        "samples",
        "rejected",
    ]
    assert len(rows) == 9 and float(rows[0]["wilson95_low"]) == pytest.approx(0.609666, abs=1e-6)
    document = json.loads(files[2].read_text())
    assert document["conditions"]["images"] == "toy, 2-way" and len(document["means"]) == 3
    assert document["kind"] == "table1" and len(document["classes"]) == 3 * 2 * 2
    assert document["confusions"][0] == {
        "target": "toy", "defence": "none", "label": 0, "class": "dark", "predicted": 1,
        "predicted_class": "bright", "count": 6, "n": 6, "share": 1.0,
    }  # fmt: skip
    page = files[3].read_text()
    assert page.count("data:image/png;base64,") == 5 + 2 * 7  # clean alone has no perturbation
    assert "✗ bright" in page


def test_page_needs_nothing_else(evaluation: Evaluation) -> None:
    page = html(evaluation, "toy")
    references = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)""", page)
    assert references and all(each.startswith("data:image/png;base64,") for each in references)
    assert page.count("<script") == 1 and "@import" not in page  # ours, allowed by its hash
    assert "prefers-color-scheme: dark" in page and 'name="viewport"' in page


def test_page_escapes_hostile_names(tmp_path: Path) -> None:
    shards = write_collection(tmp_path, key="<script>alert(1)<|script>{index}", count=2)
    evaluation = measured(shards, build_defences(["none"]))
    page = html(evaluation, "<img src=http://evil>", classes=('<b onload="x">', "<i>"))
    assert page.count("<script>") == 1 and "<b onload" not in page and "<img src=http" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_images_survive_the_page(evaluation: Evaluation) -> None:
    assert png_uri(evaluation.examples[0].images["clean"]) in html(evaluation, "toy")


def test_several_samples(shards: list[CommittedShard]) -> None:
    def run(**values: Any) -> Evaluation:
        defences = {"lottery": Lottery(), "invert": Invert()}
        return measured(shards, defences, batch_size=4, **values)

    def correct(found: Evaluation) -> list[int]:
        return [row.correct for row in found.rows if row.defence == "lottery"]

    one, worst = correct(run()), [correct(run(samples=n, combine="worst")) for n in (2, 4, 8)]
    chain = [one, *worst]
    assert all(a >= b for more, less in pairwise(chain) for a, b in zip(more, less, strict=True))
    assert sum(worst[-1]) < sum(one)  # of the same first draw
    vote = run(samples=5, combine="vote")
    kinds = {(row.defence, row.combine, row.samples, row.label) for row in vote.rows}
    assert kinds == {("lottery", "vote", 5, "lottery (vote of 5)"), ("invert", "one", 1, "invert")}
    assert {(mean.defence, mean.combine, mean.samples) for mean in vote.means} == {
        ("lottery", "vote", 5),
        ("invert", "one", 1),
    }
    assert vote.conditions["combine"] == "vote" and vote.conditions["samples"] == 5
    assert "lottery (vote of 5)" in table(vote) and "the vote of 5" in html(vote, "toy")


def test_average_is_of_the_images(shards: list[CommittedShard]) -> None:
    shown = [measured(shards, {"lottery": Lottery()}, samples=n).examples[0] for n in (1, 400)]
    assert shown[1].images["lottery"].mean() == pytest.approx(127.5, abs=8)  # uniform: sd 3.7
    assert abs(shown[0].images["lottery"].mean() - 127.5) > 8


def test_images_in_different_places_have_no_mean(shards: list[CommittedShard]) -> None:
    defences = {"enlarge": RandomResize()}
    with pytest.raises(InputError, match="enlarge: its samples lie in different places.*--combine vote"):
        measured(shards, defences, samples=2)
    assert measured(shards, defences, samples=2, combine="vote").rows
    assert measured(shards, defences).rows


def test_defences_without_chance_run_once(shards: list[CommittedShard]) -> None:
    counted, lottery = Counted(), Lottery()
    defences = {"invert": counted, "lottery": lottery}
    measured(shards, defences, samples=3, combine="worst")
    assert (counted.runs, lottery.runs) == (3, 9)  # one batch of each of three groups
    assert [RIAEDefence(small_riae(mask)).is_random for mask in ("both", "occlusion")] == [True, False]
    assert RIAEDefence(small_riae("occlusion"), partition="random").is_random


def test_extra_resize_is_reported_beside(shards: list[CommittedShard], evaluation: Evaluation) -> None:
    defences = {**build_defences(["none", "jpeg"]), "invert": Invert()}
    found = measured(shards, defences, extra_resize=True)
    names = list(dict.fromkeys(row.defence for row in found.rows))
    assert names == ["none", "none+resize", "jpeg", "jpeg+resize", "invert", "invert+resize"]
    plain = tuple(row for row in found.rows if not row.defence.endswith("+resize"))
    assert plain == evaluation.rows
    black = {row.attack: row.correct for row in found.rows if row.defence == "invert+resize"}
    assert black == {"clean": 3, "fgsm": 3, "pgd": 3}  # with a black border all look dark
    assert found.conditions["extra_resize"] == "rows ending in +resize"
    assert evaluation.conditions["extra_resize"] == "none"


def test_limit_takes_evenly_from_the_classes(tmp_path: Path) -> None:
    shards = write_collection(tmp_path, count=20)  # classes take turns: every tenth would be of one alone
    groups = select_groups(shards, {"toy": Brightness()}, limit=4)
    assert [sorted(pair.label for pair in group.pairs) for group in groups] == [[0, 0, 1, 1]] * 3
    assert len({tuple(pair.clean_sha256 for pair in group.pairs) for group in groups}) == 1
    found = measured(shards, build_defences(["none"]), limit=4)
    assert {row.n for row in found.rows} == {4} and found.conditions["images_per_attack"] == 4
    whole = measured(shards, build_defences(["none"]), limit=99)
    assert {row.n for row in whole.rows} == {20}


def test_what_is_not_finite_is_wrong(shards: list[CommittedShard], tmp_path: Path) -> None:
    found = measured(shards, {"broken": Broken()})
    assert [(row.attack, row.correct) for row in found.rows] == [("clean", 3), ("fgsm", 0), ("pgd", 0)]
    assert found.conditions["not_finite_predictions"] == 9
    assert write_report(found, tmp_path, images="toy")
    logits = torch.tensor([[0.0, -torch.inf], [0.0, torch.nan], [torch.inf, 0.0]])
    target = nn.Module()
    target.forward = lambda images: logits  # type: ignore[assignment]
    assert predict(target, torch.zeros(3, 3, 4, 4)).tolist() == [0, NO_CLASS, NO_CLASS]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"samples": 0}, "samples is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"combine": "best"}, "'best' is unknown; choose average, vote, worst"),
        ({"limit": 0}, "at most 0 images"),
    ],
)
def test_values_are_checked(shards: list[CommittedShard], values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        measured(shards, build_defences(["none"]), **values)
