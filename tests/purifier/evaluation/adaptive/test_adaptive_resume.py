"""Stopped anywhere, and run twice at once: the same table."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from impure.manifests.collection.collection import CommittedShard
from impure.purifier.defences.static.gaussian_noise import GaussianNoise
from impure.purifier.defences.static.none import NoDefence
from impure.purifier.evaluation.adaptive import subject_run
from impure.purifier.evaluation.adaptive.subject_run import SubjectResult
from tests.purifier.evaluation.adaptive.small_evaluation import run, timeless

SMALL = {"batch_size": 4, "steps": 2, "eps": (100,), "images": 6, "probe": 4}


def evaluated(shards: list[CommittedShard], out: Path) -> SubjectResult:
    return timeless(run(shards, out, GaussianNoise(eps=8), **SMALL))


@pytest.fixture
def before_batch(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], None]], None]:
    """Calls something before each batch is attacked, with its number."""

    def watch(called: Callable[[int], None]) -> None:
        attack, calls = subject_run.run_batch, 0

        def watched(*values: Any) -> Any:
            nonlocal calls
            calls += 1
            called(calls)
            return attack(*values)

        monkeypatch.setattr(subject_run, "run_batch", watched)

    return watch


def test_killed_at_every_batch_it_ends_with_the_same_table(
    many: list[CommittedShard], tmp_path: Path, before_batch: Callable[[Callable[[int], None]], None]
) -> None:
    whole, attacked = evaluated(many, tmp_path / "whole"), 0

    def kill_the_second(number: int) -> None:
        nonlocal attacked
        attacked += 1
        if attacked % 2 == 0:
            raise KeyboardInterrupt

    before_batch(kill_the_second)
    for _ in range(500):
        try:
            resumed = evaluated(many, tmp_path / "parts")
            break
        except KeyboardInterrupt:
            left = next((tmp_path / "parts" / "results").rglob("batch-*.parquet"))
            left.with_name(f".{left.name}.0.tmp").write_bytes(b"half")  # what a kill while writing leaves
    assert attacked > 20 and resumed == whole
    before = attacked
    assert evaluated(many, tmp_path / "parts") == whole
    assert attacked == before  # nothing is attacked twice


def test_two_at_once_do_no_harm(
    many: list[CommittedShard], tmp_path: Path, before_batch: Callable[[Callable[[int], None]], None]
) -> None:
    whole, other = evaluated(many, tmp_path / "whole"), []

    def meanwhile(number: int) -> None:
        if number == 5:
            other.append(evaluated(many, tmp_path / "both"))

    before_batch(meanwhile)
    assert evaluated(many, tmp_path / "both") == whole == other[0]


def test_results_of_other_weights_or_settings_are_not_taken(
    many: list[CommittedShard], tmp_path: Path
) -> None:
    class Shifted(NoDefence):
        """None, with a setting that tells two apart."""

        def __init__(self, *, shift: float = 0.0) -> None:
            super().__init__()
            self.shift = shift

    one, other = (
        run(many, tmp_path / name, Shifted(shift=shift), **SMALL) for name, shift in (("a", 0.0), ("b", 1.0))
    )
    assert one.subject.weights != other.subject.weights
    folders = [set((tmp_path / name).iterdir()) for name in ("a/results", "b/results")]
    assert not {path.name for path in folders[0]} & {path.name for path in folders[1]}
