"""`impure-train --validate` and `--tensorboard`: what is measured while a run goes on."""

import csv
from collections.abc import Callable
from pathlib import Path

from click.testing import Result

from impure.purifier.riae.model import RIAE
from tests.common import one_line

Run = Callable[..., Result]


def finished(result: Result) -> Result:
    assert result.exit_code == 0, result.output
    return result


def epochs_of(run: Path) -> set[str]:
    with (run / "validation.csv").open(newline="") as file:
        return {row["epoch"] for row in csv.DictReader(file)}


def test_validation_is_rarer_where_an_epoch_holds_few_images(train: Run, card: Path, tmp_path: Path) -> None:
    """An epoch holds as many images as a validation."""
    finished(train(tmp_path / "run", "--target", card, "--epochs", 3))
    assert epochs_of(tmp_path / "run") == {"0", "2", "3"}


def test_validation_by_default_where_its_target_is_given(train: Run, card: Path, tmp_path: Path) -> None:
    finished(
        train(
            tmp_path / "run", "--target", card, "--validate-images", 4, "--epochs", 3, "--validate-epochs", 2
        )
    )
    with (tmp_path / "run" / "validation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["epoch"] for row in rows} == {"0", "2", "3"} and {row["n"] for row in rows} == {"4"}
    assert (
        RIAE.from_pretrained(tmp_path / "run" / "best").config
        == RIAE.from_pretrained(tmp_path / "run").config
    )
    assert "best" in (tmp_path / "run" / "best" / "README.md").read_text()
    bare = train(tmp_path / "bare")
    assert "No validation: the shards were made on target 'small'" in finished(bare).stderr
    assert not (tmp_path / "bare" / "validation.csv").exists() and not (tmp_path / "bare" / "best").exists()


def test_validation_that_was_asked_for_must_be_had(train: Run, card: Path, tmp_path: Path) -> None:
    one_line(
        train(tmp_path / "run", "--validate", "validation"), "made on target 'small'; give it with --target"
    )
    one_line(train(tmp_path / "run", "--validate", "dev", "--target", card), "has test, train, validation")
    assert [path for path in (tmp_path / "run").rglob("*") if path.is_file()] == []
    finished(train(tmp_path / "run", "--validate", "test", "--target", card, "--tensorboard"))
    assert (tmp_path / "run" / "best" / "model.safetensors").exists()
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))
