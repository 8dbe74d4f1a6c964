"""The paper's figures, each by its command, on a small built-in collection."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from impure.cli import data, evaluate
from tests.common import one_line, small_run

ATTACKS = {"fgsm"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("figures") / "pairs"
    words = "generate --attack fgsm --split val --per-class 1 --device cpu --threads 1 --out".split()
    made = CliRunner().invoke(data, [*words, str(root)])
    assert made.exit_code == 0, made.output
    return root


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    train = {"mask": "both", "recipe": "pixel", "nodes": []}
    return small_run(tmp_path_factory.mktemp("figures") / "run", train=train)


def run(*words: object) -> Result:
    return CliRunner().invoke(evaluate, [str(word) for word in words])


@pytest.mark.parametrize(
    ("kind", "words", "rows"),
    [
        ("residual", ("--steps", 2, "--patch", 8), 3 * 3 + 1),
        ("fig6", (), 2),
        ("fig7", (), 2 * 2),
        ("fig9", ("--samples", 2), 2 * 3),
    ],
)
def test_a_figure_writes_its_files(
    root: Path, checkpoint: Path, tmp_path: Path, kind: str, words: tuple[object, ...], rows: int
) -> None:
    named = ("--shards", root, "--checkpoint", checkpoint, "--limit", 2, "--device", "cpu", "--out", tmp_path)
    found = run(kind, *named, *words, "--json")
    assert found.exit_code == 0, found.output
    document = json.loads((tmp_path / f"{kind}.json").read_text())
    assert json.loads(found.stdout) == document
    assert document["kind"] == kind and len(document["rows"]) == rows
    assert {row["attack"] for row in document["rows"]} - {"clean"} == ATTACKS
    assert {row["n"] for row in document["rows"]} == {2}
    conditions = document["conditions"]
    assert conditions["images"] == "builtin, 10-way, test" and conditions["checkpoints"]
    assert len(conditions["weights_sha256"]) == 2 and conditions["pixels_sha256"]
    assert len((tmp_path / f"{kind}.csv").read_text().splitlines()) == 1 + rows
    assert f"![{kind}-builtin]({kind}-builtin.svg)" in (tmp_path / f"{kind}.md").read_text()
    assert {path.name for path in tmp_path.glob("*.*g")} == {f"{kind}-builtin.svg", f"{kind}-builtin.png"}


def test_residual_needs_no_purifier(root: Path, tmp_path: Path) -> None:
    found = run(
        "residual", "--shards", root, "--limit", 2, "--steps", 1, "--device", "cpu", "--out", tmp_path
    )
    assert found.exit_code == 0, found.output
    assert "|P(x" not in (tmp_path / "residual.md").read_text()
    assert [line.split()[5] for line in found.stdout.splitlines() if "fgsm" in line] == [
        "global",
        "pixels",
        "patches",
    ]


def test_the_field_and_what_else_differs_are_said(root: Path, checkpoint: Path, tmp_path: Path) -> None:
    other = small_run(tmp_path / "other", train={"mask": "both", "recipe": "code", "nodes": [], "seed": 1})
    named = ("--checkpoint", checkpoint, "--checkpoint", other, "--limit", 1, "--device", "cpu")
    found = run("fig8", "--shards", root, *named, "--out", tmp_path / "out")
    assert found.exit_code == 0, found.output
    page = (tmp_path / "out" / "fig8.md").read_text()
    assert "pixels alone | features.38 + features.51 + classifier.1 |" in page
    assert "The runs differ in more than that: train.seed." in page and "differ" in found.stdout


def test_wrong_options_are_one_line(root: Path, checkpoint: Path, tmp_path: Path) -> None:
    named = ("--shards", root, "--limit", 1, "--device", "cpu", "--out", tmp_path / "out")
    bad = ("--checkpoint", checkpoint, "--layer", "layer4")
    one_line(
        run("fig6", *named, *bad),
        "--layer layer4: no layer of the target that returns feature maps; the last are",
    )
    one_line(run("fig7", *named), "Missing option '--checkpoint'", code=2)
    one_line(run("residual", *named, "--attacks", "clean"), "clean")
    assert not (tmp_path / "out").exists()
