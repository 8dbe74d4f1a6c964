"""Validation by attacks through the defence: the engine's numbers, and the epoch that they choose."""

import csv
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from impure.manifests.base.errors import InputError
from impure.manifests.collection.collection import CommittedShard
from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.run_attack import attack_batch
from impure.purifier.data.pair_reader import PairReader
from impure.purifier.data.pairs import list_pairs
from impure.purifier.defences.static.bit_depth import BitDepth
from impure.purifier.defences.static.gaussian_noise import GaussianNoise
from impure.purifier.evaluation.adaptive.attack_cell import ATTACK, VERDICT, LabelledImages
from impure.purifier.evaluation.adaptive.attacked_defence import AttackedDefence, draw_seed
from impure.purifier.evaluation.scores import Row
from impure.purifier.evaluation.select import batches
from impure.purifier.evaluation.validation_table import Score
from impure.purifier.training.validation import adaptive_validator
from impure.purifier.training.validation.adaptive_validator import AdaptiveValidator
from tests.purifier.conftest import Brightness

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaptive_validator, "STEPS", 8)
    monkeypatch.setattr(adaptive_validator, "EOT", 2)


def validator(shards: list[CommittedShard], out: Path, eps: int = 80) -> AdaptiveValidator:
    return AdaptiveValidator(shards, {"toy": Brightness()}, out, eps=eps, images=6, batch_size=4, device=CPU)


def lines(out: Path) -> list[dict[str, str]]:
    with (out / "validation.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_it_counts_the_worst_of_five_draws(shards: list[CommittedShard], tmp_path: Path) -> None:
    """Written out: PGD by the engine through the defence, then fresh draws, batch by batch."""
    defence, target = GaussianNoise(eps=120), Brightness()
    score = validator(shards, tmp_path)(defence, "noise", 1)
    pgd = AttackConfig(name="pgd-ce", eps_255=80, overrides=(("steps", 8),))
    right = []
    for number, pairs in enumerate(batches(list_pairs(shards).distinct_clean(), 4)):
        clean, labels, ids = LabelledImages.read(PairReader(), pairs, CPU)
        model = AttackedDefence(defence, target, "full", draw_seed(0, number, ATTACK))
        attacked = attack_batch(pgd, model, clean, labels, ids, 0, eot=2).adversarial / 255
        for draw in range(5):
            defence.reseed(draw_seed(0, number, VERDICT, draw))
            right.append((target(defence(attacked)).argmax(1) == labels, draw))
    by_draw = torch.stack([torch.cat([one for one, at in right if at == draw]) for draw in range(5)])
    wanted = float(by_draw.all(0).float().mean())
    assert 0 < wanted < float(by_draw.float().mean()) < 1
    assert [(row.attack, row.n) for row in score.rows] == [("clean", 6), ("adaptive-pgd-ce-e80", 6)]
    assert score.attacked == pytest.approx(wanted) and score.clean == 1
    assert [(line["epoch"], line["defence"]) for line in lines(tmp_path)] == [
        ("0", "none"), ("0", "none"), ("1", "noise"), ("1", "noise"),
    ]  # fmt: skip


def test_a_defence_without_draws_is_asked_once(
    shards: list[CommittedShard], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    whole = BitDepth.defend

    def counted(self: BitDepth, images: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return whole(self, images)

    monkeypatch.setattr(BitDepth, "defend", counted)
    validator(shards, tmp_path)(BitDepth(), "bits", 1)
    assert calls == 2 * (1 + 8 + 1 + 1)  # two batches: clean; steps, the engine's last look, the verdict


def test_training_goes_on_as_if_nothing_had_happened(shards: list[CommittedShard], tmp_path: Path) -> None:
    defence = GaussianNoise().train()
    before = torch.get_rng_state()
    check = validator(shards, tmp_path)
    first = check(defence, "noise", 1)
    assert defence.training and torch.equal(before, torch.get_rng_state())
    check(defence, "noise", 2)
    resumed = validator(shards, tmp_path)
    resumed.forget_after(1)
    assert {line["epoch"] for line in lines(tmp_path)} == {"0", "1"}
    assert resumed(defence, "noise", 2) == first and resumed.best() == (2, first)


def test_the_best_epoch_is_that_of_the_attacks_through_it(shards: list[CommittedShard]) -> None:
    def score(clean: int, attacked: int) -> Score:
        rows = (("clean", clean), ("adaptive-pgd-ce-e4", attacked))
        return Score(
            rows=tuple(
                Row(target="toy", attack=attack, defence="riae", n=10, correct=correct)
                for attack, correct in rows
            )
        )

    assert score(5, 4).at_least(score(10, 3)) and not score(10, 3).at_least(score(5, 4))
    assert score(5, 4).overall == 0.4


def test_another_validation_in_the_folder(shards: list[CommittedShard], tmp_path: Path) -> None:
    validator(shards, tmp_path)(BitDepth(), "bits", 1)
    with pytest.raises(InputError, match="other targets, attacks or numbers of images"):
        validator(shards, tmp_path, eps=8)
    with pytest.raises(InputError, match="given are other"):
        AdaptiveValidator(
            shards, {"other": nn.Identity()}, tmp_path, eps=8, images=6, batch_size=4, device=CPU
        )
