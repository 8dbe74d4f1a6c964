"""A time is given, and images, steps and draws are chosen to fit; once for each folder."""

from dataclasses import replace
from pathlib import Path

import pytest

from impure.manifests.base.errors import InputError
from impure.manifests.collection.collection import CommittedShard
from impure.purifier.defences.static.gaussian_noise import GaussianNoise
from impure.purifier.evaluation.adaptive import budget
from impure.purifier.evaluation.adaptive.adaptive_config import PRESETS
from impure.purifier.evaluation.adaptive.budget import Choice, choose, expected, read_duration
from impure.purifier.evaluation.adaptive.pass_cost import Costs, PassCost
from impure.purifier.evaluation.adaptive.subject_run import SubjectRun
from tests.purifier.evaluation.adaptive.small_evaluation import CONFIG, CPU, runs_of

MILLISECOND = PassCost(forward=0.001, backward=0.002)


@pytest.fixture
def runs(many: list[CommittedShard], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[SubjectRun]:
    """Where a pass takes a millisecond."""
    monkeypatch.setattr(SubjectRun, "costs", lambda *_: Costs(target=MILLISECOND, defended=MILLISECOND))
    return runs_of(many, tmp_path, GaussianNoise())


def chosen(runs: list[SubjectRun], seconds: float, out: Path, **keep: int) -> Choice:
    return choose(runs, replace(CONFIG, **keep), seconds, out, device=CPU, keep=list(keep))  # type: ignore[arg-type]


def test_the_most_that_fits_is_chosen(runs: list[SubjectRun], tmp_path: Path) -> None:
    plenty = chosen(runs, 3600, tmp_path)
    assert plenty.applied_to(CONFIG) == CONFIG and plenty.seconds < 3600
    little = chosen(runs, plenty.seconds / 3, tmp_path)
    assert little.seconds <= plenty.seconds / 3
    assert (
        expected(little.applied_to(CONFIG), runs[0], Costs(target=MILLISECOND, defended=MILLISECOND))
        == little.seconds
    )
    assert little.images * little.steps * little.eot < 24 * 8 * 2
    none = chosen(runs, 0.001, tmp_path)
    assert (none.images, none.steps, none.eot) == (8, 4, 1) and none.seconds > 0.001
    assert "budget 10m: 8 images, 4 steps of 1 draws, checks on 8 images; about " in none.told("10m")
    assert "3 ms through toy and toy" in none.told("10m")


def test_what_the_user_sets_stays(runs: list[SubjectRun], tmp_path: Path) -> None:
    assert chosen(runs, 0.001, tmp_path, steps=7).steps == 7


def test_a_resumed_evaluation_keeps_the_choice(
    runs: list[SubjectRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = chosen(runs, 10, tmp_path)
    monkeypatch.setattr(SubjectRun, "costs", lambda *_: pytest.fail("measured again"))
    assert chosen(runs, 10, tmp_path) == first
    (kept,) = tmp_path.glob("budget-*.json")
    kept.write_text("{}")
    with pytest.raises(InputError, match="delete it to choose anew"):
        chosen(runs, 10, tmp_path)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5400)])
def test_durations(text: str, seconds: float) -> None:
    assert read_duration(text) == seconds


@pytest.mark.parametrize("text", ["10", "ten m", "0s", "-5m", ""])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="write a number with s, m or h"):
        read_duration(text)


def test_what_falls_is_a_field_of_every_preset() -> None:
    assert {name for name, _ in budget.FALL} - {"probe"} <= PRESETS["paper"].keys()
