"""`impure-data sanitise`, and the whole way of a DDPM: trained, evaluated, and put before a backdoor."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result

from impure.manifests.base.parquet import read_table
from impure.pipeline.builtin.drawing import CLASSES
from impure.pipeline.targets.load import load_target
from impure.purifier.defences.files.purify_files import read_image
from impure.purifier.sanitise.sanitise_folder import SCHEMA
from tests.common import one_line
from tests.purifier.defences.diffusion.small_unets import save_ddpm
from tests.purifier.sanitise.backdoor import BACKDOOR, poison

Run = Callable[..., Result]


def test_a_folder_without_a_backdoor(imagenet: Path, card: Path, tmp_path: Path, run: Run) -> None:
    pipeline = save_ddpm(tmp_path / "pipeline")
    arguments = (
        imagenet, "--purifier", f"diffpure:weights={pipeline}:t=2", "--target", card, "--rounds", 1,
        "--flips", 0, "--out", tmp_path / "out", "--device", "cpu", "--threads", 1,
    )  # fmt: skip
    said = run("data", "sanitise", *arguments, "--json")
    assert said.exit_code == 0, said.output
    summary = json.loads(said.stdout)
    assert summary["kept"] + summary["purified"] == 36 and summary["unreadable"] == 0
    table, config = read_table(tmp_path / "out" / "report.parquet", SCHEMA)
    assert len(table) == 36 and {"name": "diffpure", "t": "2"}.items() <= config["purifier"].items()
    again = run("data", "sanitise", *arguments)
    assert again.exit_code == 0 and f"{summary['kept']} kept" in again.stdout


def test_bad_input_is_one_line(imagenet: Path, card: Path, tmp_path: Path, run: Run) -> None:
    for options, said in (
        (("--purifier", "magic"), "no defence 'magic'"),
        (("--purifier", "diffpure"), "defence 'diffpure' needs a trained network"),
        (("--purifier", "none", "--rounds", 2), "flips is 2; it must be from 0 to rounds - 1 = 1"),
        (("--purifier", "none", "--split", "val", "--target", "builtin"), "n01440764 is no class of target"),
    ):
        one_line(
            run("data", "sanitise", imagenet, "--target", card, "--out", tmp_path / "out", *options), said
        )
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def ddpm(tmp_path_factory: pytest.TempPathFactory, run: Run) -> tuple[Path, Path]:
    """A collection of the built-in data, and a run of `ddpm-tiny` on its clean images."""
    root = tmp_path_factory.mktemp("ddpm")
    made = run("data", "generate", "--attack", "pgd", "--eps", 16, "--out", root / "c", "--device", "cpu")
    assert made.exit_code == 0, made.output
    trained = run(
        "train", "--shards", root / "c", "--model", "ddpm-tiny", "--validate", "none", "--out", root / "run",
        "--device", "cpu", "--epochs", 60,
    )  # fmt: skip
    assert trained.exit_code == 0, trained.output
    return root / "c", root / "run"


@pytest.mark.slow
@pytest.mark.timeout(1200)  # with the training
def test_a_ddpm_trained_here_defends(ddpm: tuple[Path, Path], tmp_path: Path, run: Run) -> None:
    shards, weights = ddpm
    names = [f"diffpure:weights={weights}:t=30:steps=3", f"consistency:weights={weights}:sigma=0.1"]
    done = run(
        "evaluate", "--shards", shards, "--defence", ",".join(["none", *names]), "--out", tmp_path / "report",
        "--device", "cpu",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    rows = csv.DictReader((tmp_path / "report" / "report.csv").read_text().splitlines())
    accuracy = {(row["attack"], row["defence"]): float(row["accuracy"]) for row in rows}
    for name in names:
        assert accuracy["pgd", name] > accuracy["pgd", "none"] + 0.5
        assert accuracy["clean", name] > 0.85


@pytest.mark.slow
@pytest.mark.timeout(1200)  # with the training
@pytest.mark.parametrize("trigger", ["badnets", "blended"])
def test_triggers_are_neutralised(ddpm: tuple[Path, Path], trigger: str, tmp_path: Path, run: Run) -> None:
    """At least 80 % of the triggers, and at least 90 % of the benign images keep class and pixels."""
    data = poison(tmp_path, trigger, benign=15, triggered=15)
    done = run(
        "data", "sanitise", data.root, "--purifier", f"diffpure:weights={ddpm[1]}:t=30:steps=3", "--target",
        data.card, "--out", tmp_path / "clean", "--device", "cpu",
    )  # fmt: skip
    assert done.exit_code == 0 and CLASSES[BACKDOOR] in done.output, done.output
    rows = read_table(tmp_path / "clean" / "report.parquet", SCHEMA)[0].to_pylist()
    files = {row["source_id"]: row["file"] for row in rows}
    kept = [files[name] == name for name in data.benign]
    images = torch.stack([read_image(tmp_path / "clean" / files[name]) for name in data.triggered])
    with torch.no_grad():
        labels = load_target(str(data.card))(images).argmax(1).tolist()
    neutralised = [
        label != BACKDOOR and CLASSES[BACKDOOR] not in files[name]
        for label, name in zip(labels, data.triggered, strict=True)
    ]
    assert sum(neutralised) >= 0.8 * len(neutralised)
    assert sum(kept) >= 0.9 * len(kept)
