"""Tables go on where they were killed, to the same report, and two at once do no harm."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from impure.purifier.evaluation import measure
from tests.common import one_line, small_run
from tests.purifier.commands.evaluate.toy_eval import toy_eval
from tests.purifier.conftest import write_collection

ATTACKS = ("fgsm", "pgd")
GROUPS = ("clean", *ATTACKS)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    folder = tmp_path_factory.mktemp("tables")
    write_collection(folder / "pairs", attacks=ATTACKS, sizes=((32, 32),))
    defences = ("--defence", "none,gaussian-noise:eps=200", "--checkpoint", small_run(folder / "run"))
    return ("--shards", folder / "pairs", "--split", "train", "--batch-size", 4, *defences)


@pytest.fixture
def before_group(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], None]], None]:
    """Calls something before each group is measured, with its attack."""
    plain = measure.measure_group

    def watch(called: Callable[[str], None]) -> None:
        def watched(reader: Any, group: Any, *rest: Any, **more: Any) -> Any:
            called(group.attack)
            return plain(reader, group, *rest, **more)

        monkeypatch.setattr(measure, "measure_group", watched)

    return watch


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".csv", ".png")}


@pytest.mark.parametrize(("table", "stem"), [("table1", "report"), ("table2", "table2")])
def test_killed_at_every_attack_it_ends_with_the_same_report(
    words: tuple[object, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before_group: Callable[[Callable[[str], None]], None],
    table: str,
    stem: str,
) -> None:
    measured: list[str] = []

    def kill_the_second(attack: str) -> None:
        if len(measured) % 2:
            measured.append("killed")
            raise KeyboardInterrupt
        measured.append(attack)

    whole = toy_eval(monkeypatch, table, *words, "--out", tmp_path / "whole")
    assert whole.exit_code == 0, whole.output
    before_group(kill_the_second)
    for _ in GROUPS:
        found = toy_eval(monkeypatch, table, *words, "--out", tmp_path / "parts")
    assert found.exit_code == 0, found.output
    assert [attack for attack in measured if attack != "killed"] == list(GROUPS)
    assert files(tmp_path / "parts") == files(tmp_path / "whole")
    assert not list(tmp_path.glob("parts/partial-*"))
    documents = [json.loads((tmp_path / name / f"{stem}.json").read_text()) for name in ("whole", "parts")]
    for document in documents:
        document["conditions"].pop("date")
    assert documents[0] == documents[1]


def test_two_at_once_do_no_harm(
    words: tuple[object, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before_group: Callable[[Callable[[str], None]], None],
) -> None:
    others = []

    def meanwhile(attack: str) -> None:
        if not others:
            others.append(None)
            others[0] = toy_eval(monkeypatch, "table1", *words, "--out", tmp_path / "out")

    before_group(meanwhile)
    found = toy_eval(monkeypatch, "table1", *words, "--out", tmp_path / "out")
    assert found.exit_code == others[0].exit_code == 0, found.output
    assert files(tmp_path / "out") == files(tmp_path / "out-2")
    assert not list(tmp_path.glob("*/partial-*"))


def test_only_what_fits_is_taken_and_damage_is_told(
    words: tuple[object, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before_group: Callable[[Callable[[str], None]], None],
) -> None:
    measured: list[str] = []

    def kill_the_last(attack: str) -> None:
        measured.append(attack)
        if len(measured) == len(GROUPS):
            raise KeyboardInterrupt

    before_group(kill_the_last)
    assert toy_eval(monkeypatch, "table1", *words, "--out", tmp_path / "out").exit_code == 1
    assert toy_eval(monkeypatch, "table1", *words, "--out", tmp_path / "out", "--seed", 1).exit_code == 0
    assert len(measured) == 2 * len(GROUPS)  # another seed: nothing was taken
    kept = sorted(tmp_path.glob("out/partial-*"))
    assert len(kept) == len(GROUPS) - 1
    kept[0].write_bytes(kept[0].read_bytes()[:-9])
    one_line(toy_eval(monkeypatch, "table1", *words, "--out", tmp_path / "out"), "partial-.*not a readable")
