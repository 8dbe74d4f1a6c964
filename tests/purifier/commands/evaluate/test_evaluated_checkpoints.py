"""Several checkpoints are columns with names that tell them apart."""

from pathlib import Path

import pytest

from impure.manifests.base.errors import InputError
from impure.purifier.commands.evaluate.evaluated_checkpoints import endings, open_checkpoints, report_folder
from impure.purifier.defences.defence_registry import build_defences
from tests.common import small_run


@pytest.mark.parametrize(
    ("checkpoints", "names"),
    [
        ([], []),
        (["runs/a"], [""]),
        (["runs/a", "runs/b"], ["a", "b"]),
        (["one/a", "two/a", "two/b"], ["one/a", "two/a", "two/b"]),
        (["runs/a/best", "runs/b/best", "runs/a"], ["a/best", "b/best", "a"]),
        (["runs/a/model.safetensors", "lab/a@main"], ["a", "a@main"]),
    ],
)
def test_columns_are_named_by_the_shortest_ends_that_differ(checkpoints: list[str], names: list[str]) -> None:
    found = endings([Path(name) for name in checkpoints])
    assert list(found) == names and [str(path) for path in found.values()] == checkpoints


def test_a_checkpoint_named_twice_is_refused() -> None:
    with pytest.raises(InputError, match=r"--checkpoint a/model.safetensors is named twice"):
        endings([Path("a"), Path("b"), Path("a/model.safetensors")])


def test_each_column_is_its_own_purifier(tmp_path: Path) -> None:
    one, other = small_run(tmp_path / "a", epoch=7), small_run(tmp_path / "b")
    opened = open_checkpoints([one, other])
    assert {column: checkpoint.epoch for column, checkpoint in opened.items()} == {
        "riae:a": "7",
        "riae:b": "the last saved",
    }
    assert list(open_checkpoints([one, small_run(tmp_path / "riae")])) == ["riae:a", "riae"]
    built = build_defences(["none", "riae"], {name: each.defence for name, each in opened.items()})
    assert list(built) == ["none", "riae:a", "riae:b"]
    assert built["riae:a"] is opened["riae:a"].defence
    assert report_folder([one]) == one / "report" and report_folder([one, other]) == Path("impure-report")
