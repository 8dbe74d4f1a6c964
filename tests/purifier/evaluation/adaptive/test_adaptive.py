"""Attacks through defences: what they report, how they resume, and that masked gradients are noticed."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from impure.manifests.base.errors import InputError
from impure.manifests.collection.collection import CommittedShard
from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.run_attack import attack_batch
from impure.purifier.data.pair_reader import PairReader
from impure.purifier.data.pairs import list_pairs
from impure.purifier.defences.base.defence import Defence
from impure.purifier.defences.base.random_defence import RandomDefence
from impure.purifier.defences.static.gaussian_noise import GaussianNoise
from impure.purifier.defences.static.none import NoDefence
from impure.purifier.defences.static.random_resize import RandomResize
from impure.purifier.evaluation.adaptive import cells, run_adaptive
from impure.purifier.evaluation.adaptive.adaptive_config import AdaptiveConfig
from impure.purifier.evaluation.adaptive.adaptive_report import write_adaptive_report
from impure.purifier.evaluation.adaptive.adaptive_scores import ALL
from impure.purifier.evaluation.adaptive.run_adaptive import SubjectResult, evaluate_adaptively
from tests.purifier.conftest import write_collection

CPU = torch.device("cpu")
CONFIG = AdaptiveConfig(eps=(16, 100), steps=16, eot=2, images=24, samples=3, probe=24, batch_size=24)


class Curved(nn.Module):
    """Two classes by brightness, with a gradient at every pixel that depends on the image."""

    def forward(self, images: Tensor) -> Tensor:
        light = images.square().mean((1, 2, 3)) - 0.25
        return torch.stack([-light, light], dim=1)


class Shattered(Defence):
    """A ripple that no eye sees, and whose gradient is all noise."""

    source = "fixture"

    def defend(self, images: Tensor) -> Tensor:
        return (images + 1e-3 * torch.sin(1e5 * images)).clamp(0, 1)


class Erratic(RandomDefence):
    """Shows one value in thirty, others each time: gradients of two draws have little in common."""

    source = "fixture"

    def defend(self, images: Tensor) -> Tensor:
        shown = (self.normal(self.rows(images), *images.shape[1:]) > 1.83).to(images)
        return images * shown + 0.5 * (1 - shown)


@pytest.fixture(autouse=True)
def few_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "PROBE_QUERIES", 1)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> list[CommittedShard]:
    return write_collection(tmp_path_factory.mktemp("many"), attacks=("fgsm",), count=24)


def run(
    shards: list[CommittedShard], out: Path, defence: Defence, name: str = "toy", **changes: Any
) -> SubjectResult:
    config = replace(CONFIG, **changes)
    (found,) = evaluate_adaptively(shards, {"toy": Curved()}, {name: defence}, config, out, device=CPU)
    return found


def failed(found: SubjectResult) -> set[str]:
    return {check.name for check in found.checks if not check.passed}


def test_none_gives_the_plain_attacks_numbers(many: list[CommittedShard], tmp_path: Path) -> None:
    found = run(many, tmp_path, NoDefence(), "none", batch_size=24)
    assert failed(found) == set() and not found.is_broken
    pairs = list(list_pairs(many).distinct_clean())
    images = torch.stack([PairReader().clean(pair) for pair in pairs])
    labels = torch.tensor([pair.label for pair in pairs])
    ids = [pair.clean_sha256 for pair in pairs]
    for row in found.rows:
        if row.cell.attack == "pgd-ce" and row.cell.knowledge == "full":
            config = AttackConfig(name="pgd-ce", eps_255=row.cell.eps, overrides=(("steps", 16),))
            attacked = attack_batch(config, Curved(), images, labels, ids, 0).adversarial
            right = Curved()(attacked / 255).argmax(1) == labels
            assert row.mean == row.worst == row.vote == pytest.approx(float(right.float().mean()))
    accuracies = {row.cell.label: row.mean for row in found.rows}
    assert accuracies["clean"] == 1 and accuracies["pgd-ce 100/255"] == 0


def test_every_column_is_there(many: list[CommittedShard], tmp_path: Path) -> None:
    found = run(many, tmp_path, GaussianNoise(eps=8), attacks=("pgd-ce", "apgd-margin"))
    labels = [row.cell.label for row in found.rows]
    assert labels == [
        "clean", "noise 16/255", "noise 100/255",
        "pgd-ce 16/255 (blind)", "pgd-ce 16/255 (straight-through)", "pgd-ce 16/255", "apgd-margin 16/255",
        "pgd-ce 100/255 (blind)", "pgd-ce 100/255 (straight-through)", "pgd-ce 100/255",
        "apgd-margin 100/255", f"{ALL} 16/255", f"{ALL} 100/255",
    ]  # fmt: skip
    full = next(row for row in found.rows if row.cell.label == "pgd-ce 100/255")
    assert full.grad_evals == 16 * 2 and full.n == 24 and full.seconds > 0 and full.cell.samples == 3
    assert all(row.worst <= row.mean and row.worst <= row.vote for row in found.rows)
    least = found.rows[-1]
    assert all(least.mean <= row.mean for row in found.rows[7:11])
    paths = write_adaptive_report([found], {"date": "today"}, tmp_path)
    assert [path.name for path in paths] == ["adaptive.md", "adaptive.csv", "adaptive.json"]
    text = paths[0].read_text()
    assert "mean of draws" in text and "- pass: steps beat one step" in text and "- date: today" in text
    with paths[1].open(newline="") as file:
        assert [row["attack"] for row in csv.DictReader(file)] == [row.cell.attack for row in found.rows]
    document = json.loads(paths[2].read_text())["defences"][0]
    assert document["defence"] == "toy" and document["rows"][0]["mean_interval"][1] == 1


def test_shattered_gradients_raise_the_flags(many: list[CommittedShard], tmp_path: Path) -> None:
    found = run(many, tmp_path, Shattered())
    assert {"full beats straight-through at 100/255", "full beats blind at 100/255"} <= failed(found)
    assert found.is_broken


def test_stochastic_gradients_raise_the_flags(many: list[CommittedShard], tmp_path: Path) -> None:
    assert "gradients of two draws agree" in failed(run(many, tmp_path, Erratic()))


def test_missing_gradients_raise_the_flags(many: list[CommittedShard], tmp_path: Path) -> None:
    class Rounded(Defence):
        """Rounds without a way back, but for a hair."""

        def defend(self, images: Tensor) -> Tensor:
            return (images * 31).round() / 31

    assert "gradients are there" in failed(run(many, tmp_path, Rounded()))


def test_a_stopped_evaluation_goes_on_and_ends_with_the_same_table(
    many: list[CommittedShard], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"batch_size": 10, "steps": 8}
    whole = run(many, tmp_path / "whole", GaussianNoise(eps=8), **small)
    attack, calls = run_adaptive.run_batch, 0

    def killed(*values: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 20:
            raise KeyboardInterrupt
        return attack(*values)

    monkeypatch.setattr(run_adaptive, "run_batch", killed)
    with pytest.raises(KeyboardInterrupt):
        run(many, tmp_path / "parts", GaussianNoise(eps=8), **small)
    resumed = run(many, tmp_path / "parts", GaussianNoise(eps=8), **small)
    assert timeless(resumed) == timeless(whole)
    before = calls
    assert timeless(run(many, tmp_path / "parts", GaussianNoise(eps=8), **small)) == timeless(whole)
    assert calls == before  # nothing is attacked twice


def timeless(found: SubjectResult) -> SubjectResult:
    rows = tuple(replace(row, seconds=0.0) for row in found.rows)
    return replace(found, rows=rows)


def test_results_of_other_weights_are_not_taken(many: list[CommittedShard], tmp_path: Path) -> None:
    class Shifted(NoDefence):
        """None, with a weight that tells two apart."""

        def __init__(self, shift: float) -> None:
            super().__init__()
            self.register_buffer("shift", torch.tensor(shift))

    assert run(many, tmp_path, Shifted(0.0)).subject != run(many, tmp_path, Shifted(1.0)).subject


def test_a_defence_that_changes_the_size_has_no_straight_through_row(
    many: list[CommittedShard], tmp_path: Path
) -> None:
    found = run(many, tmp_path, RandomResize(), eps=(100,))
    assert {row.cell.knowledge for row in found.rows} == {"none", "blind", "full"}


def test_impossible_values() -> None:
    for values, message in (
        ({"steps": 0}, "steps is 0"),
        ({"eps": (0,)}, "eps is 0"),
        ({"attacks": ()}, "nothing to attack with"),
    ):
        with pytest.raises(InputError, match=message):
            AdaptiveConfig(**values)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no preset 'slow'; choose from quick, standard, paper"):
        AdaptiveConfig.preset("slow")
