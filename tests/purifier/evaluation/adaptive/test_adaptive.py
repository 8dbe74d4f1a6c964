"""Attacks through defences: rows, columns, and what `none` gives."""

import csv
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from impure.manifests.base.errors import InputError
from impure.manifests.collection.collection import CommittedShard
from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.attack_registry import ATTACKS
from impure.pipeline.attacks.run_attack import attack_batch
from impure.purifier.data.pair_reader import PairReader
from impure.purifier.data.pairs import list_pairs
from impure.purifier.defences.static.gaussian_noise import GaussianNoise
from impure.purifier.defences.static.none import NoDefence
from impure.purifier.defences.static.random_resize import RandomResize
from impure.purifier.evaluation.adaptive.adaptive_config import AdaptiveConfig
from impure.purifier.evaluation.adaptive.adaptive_report import document, write_adaptive_report
from impure.purifier.evaluation.adaptive.adaptive_scores import ALL
from impure.purifier.evaluation.adaptive.cell_results import CellResults, correctness
from impure.purifier.evaluation.adaptive.run_adaptive import evaluate_adaptively, subject_runs
from tests.purifier.evaluation.adaptive.small_evaluation import CPU, Curved, failed, run

KEYS = [
    "target", "defence", "settings", "defence_weights", "target_weights", "plan", "pixels", "chosen",
    "knowledge", "gradient", "attack", "loss", "norm", "eps", "steps", "step_size", "restarts", "eot",
    "samples", "n", "mean", "mean_low", "mean_high", "worst", "worst_low", "worst_high", "vote", "vote_low",
    "vote_high", "clean_mean", "clean_worst", "clean_vote", "noise_mean", "noise_worst", "noise_vote",
    "converged", "flags", "grad_evals", "passes", "flop", "seconds", "seed", "batch_size",
]  # fmt: skip


def test_none_gives_the_plain_attacks_numbers_image_by_image(
    many: list[CommittedShard], tmp_path: Path
) -> None:
    found = run(many, tmp_path, NoDefence(), "none")
    assert failed(found) == set() and not found.is_broken
    pairs = list(list_pairs(many).distinct_clean())
    images = torch.stack([PairReader().clean(pair) for pair in pairs])
    labels = torch.tensor([pair.label for pair in pairs])
    ids = [pair.clean_sha256 for pair in pairs]
    cells = [row.cell for row in found.rows if row.cell.label in ("pgd-ce 16/255", "pgd-ce 100/255")]
    assert len(cells) == 2
    for cell in cells:
        config = AttackConfig(name="pgd-ce", eps_255=cell.eps, overrides=(("steps", 8),))
        attacked = attack_batch(config, Curved(), images, labels, ids, 0).adversarial
        wanted = Curved()(attacked / 255).argmax(1)
        assert correctness(CellResults(tmp_path, cell).read())[0][:, 0].tolist() == wanted.tolist()
    accuracies = {row.cell.label: row.accuracy.mean for row in found.rows}
    assert accuracies["clean"] == 1 and accuracies["pgd-ce 100/255"] == 0


def test_every_row_and_column_is_there(many: list[CommittedShard], tmp_path: Path) -> None:
    found = run(many, tmp_path, GaussianNoise(eps=8), attacks=("pgd-ce", "apgd-margin"))
    labels = [row.cell.label for row in found.rows]
    assert labels == [
        "clean", "noise 16/255", "noise 100/255",
        "pgd-ce 16/255 (blind)", "pgd-ce 16/255 (straight-through)", "pgd-ce 16/255", "apgd-margin 16/255",
        "pgd-ce 100/255 (blind)", "pgd-ce 100/255 (straight-through)", "pgd-ce 100/255",
        "apgd-margin 100/255", f"{ALL} 16/255", f"{ALL} 100/255",
    ]  # fmt: skip
    full = next(row for row in found.rows if row.cell.label == "pgd-ce 100/255")
    assert full.grad_evals == 8 * 2 and full.accuracy.n == 24 and full.seconds > 0 and full.samples == 3
    assert full.passes == 8 * 2 + 1  # the last look is that of the threat model
    for row in found.rows:
        assert row.accuracy.worst <= row.accuracy.mean and row.accuracy.worst <= row.accuracy.vote
    least = found.rows[-1]
    assert all(least.accuracy.mean <= row.accuracy.mean for row in found.rows[7:11])
    paths = write_adaptive_report([found], {"date": "today"}, tmp_path)
    names = ["adaptive.md", "adaptive.csv", "adaptive.json"]
    plots = [f"adaptive-{axis}.{kind}" for axis in ("eps", "steps", "eot") for kind in ("svg", "png")]
    assert [path.name for path in paths] == names + plots and all(path.stat().st_size for path in paths)
    text = paths[0].read_text()
    assert "- pass: steps beat one step" in text and "- date: today" in text and "DiffHammer" in text
    assert "No adversarially trained classifier" in text
    with paths[1].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["attack"] for row in rows] == [row.cell.attack for row in found.rows]
    written = json.loads(paths[2].read_text())
    assert written["kind"] == "adaptive" and list(rows[0]) == list(written["rows"][0]) == KEYS
    record = written["rows"][9]
    expected = {
        "settings": '{"eps":8}', "gradient": "exact through defence and target", "loss": "cross-entropy",
        "norm": "Linf", "step_size": "ε/4, falling to 0", "clean_worst": 1.0,
        "converged": False, "flags": "not converged", "flop": 0.0,
    }  # fmt: skip
    assert expected.items() <= record.items() and len(record["defence_weights"]) == 64
    (about,) = written["defences"]
    assert about["defence"] == "toy" and not about["broken"] and about["checks"][0]["passed"]
    assert [point["eps"] for point in about["curves"]["eps"]] == [2, 8, 16, 32, 100, 128]
    assert [point["steps"] for point in about["curves"]["steps"]] == [2, 4, 8, 16] * 2
    assert [point["eot"] for point in about["curves"]["eot"]] == [1, 3]


def test_each_number_of_draws_has_rows_and_every_attack_is_transferred(
    many: list[CommittedShard], tmp_path: Path
) -> None:
    """As the preset `paper` has it."""
    config = {
        "samples": (2, 5),
        "transfers": True,
        "attacks": ("pgd-ce", "pgd-margin", "square"),
        "eps": (100,),
        "steps": 2,
        "images": 8,
    }
    found = run(many, tmp_path, GaussianNoise(eps=100), **config)
    rows = {(row.cell.label, row.samples): row for row in found.rows}
    for attack in ("pgd-ce", "pgd-margin", "square"):
        assert {(f"{attack} 100/255 (blind)", count) for count in (2, 5)} <= rows.keys()
    for label in ("clean", f"{ALL} 100/255"):
        assert rows[label, 5].accuracy.worst <= rows[label, 2].accuracy.worst
    square = rows["square 100/255", 2]
    assert square.grad_evals == 0 < square.passes and (square.cell.eot, square.cell.restarts) == (2, 1)


def test_a_defence_that_changes_the_size_has_no_straight_through_row(
    many: list[CommittedShard], tmp_path: Path
) -> None:
    found = run(many, tmp_path, RandomResize(), eps=(100,), steps=2, images=2, probe=2)
    assert {row.cell.knowledge for row in found.rows} == {"none", "blind", "full"}
    assert found.subject.settings == {"interpolation": "nearest", "padding": "grey"}


def test_every_attack_of_the_engine_can_be_asked_for(many: list[CommittedShard], tmp_path: Path) -> None:
    class Four(nn.Module):
        """With two classes more that are never seen."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            two = Curved()(images)
            return torch.cat([two, two.mean(1, keepdim=True) - 9, two.mean(1, keepdim=True) - 10], dim=1)

    config = AdaptiveConfig(attacks=tuple(ATTACKS), eps=(64,), steps=2, eot=2, images=2, restarts=2, probe=2)
    runs = subject_runs(many, {"toy": Four()}, {"noise": GaussianNoise(eps=4)}, config, tmp_path, device=CPU)
    (found,) = evaluate_adaptively(runs, CPU)
    assert {row.cell.attack for row in found.rows} >= set(ATTACKS)
    assert all(row["loss"] for row in document([found], {})["rows"] if row["attack"] in ATTACKS)


def test_impossible_values() -> None:
    for values, message in (
        ({"steps": 0}, "steps is 0"),
        ({"eps": (0,)}, "eps is 0"),
        ({"attacks": ()}, "nothing to attack with"),
        ({"samples": (5, 0)}, "a verdict needs at least one draw"),
    ):
        with pytest.raises(InputError, match=message):
            AdaptiveConfig(**values)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no preset 'slow'; choose from quick, standard, paper"):
        AdaptiveConfig.preset("slow")
    paper = AdaptiveConfig.preset("paper")
    assert paper.samples == (10, 128) and paper.transfers and paper.restarts == 3
