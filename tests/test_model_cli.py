"""`impure-model`, and the other commands on a purifier from the Hub."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from impure.manifests.base.files import read_json
from impure.purifier.checkpoints.export import read_description
from impure.purifier.riae.model import RIAE
from tests.common import one_line, small_run
from tests.purifier.checkpoints.test_hub import Hub, hub  # noqa: F401 - a fixture
from tests.purifier.checkpoints.test_release import release

Run = Callable[..., Result]
TABLE = (
    "epoch,target,attack,defence,n,correct,accuracy\n2,small,clean,riae,10,9,0.9\n2,small,pgd,riae,10,7,0.7\n"
)


@pytest.fixture
def purifier(tmp_path: Path) -> Path:
    """A run's folder, as training leaves it, with its best weights."""
    for folder in (tmp_path / "run", tmp_path / "run" / "best"):
        small_run(folder, data={"collections": ["ab" * 32]})
    (tmp_path / "run" / "validation.csv").write_text(TABLE)
    return tmp_path / "run"


def fine(result: Result) -> Result:
    assert result.exit_code == 0, result.output
    return result


# --- export ---


def test_export_for_pytorch(purifier: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out" / "small.pt2"
    said = json.loads(
        fine(run("model", "export", purifier, out, "--height", 16, "--width", 24, "--json")).stdout
    )
    assert said["file"] == str(out) and said["bytes"] == out.stat().st_size and said["difference"] < 1e-4
    assert said["inputs"]["images"] == ["batch", 3, 16, 24]
    assert list(said["inputs"]) == ["images", "image_noise", "feature_noise"]
    assert read_description(out).collections == ("ab" * 32,)


@pytest.mark.slow
def test_export_for_onnx(purifier: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "small.onnx"
    said = fine(
        run("model", "export", purifier / "model.safetensors", out, "--height", 16, "--width", 16)
    ).stdout
    assert "small.onnx" in said and "image_noise: float32" in said and "differs from the network" in said


def test_exports_that_cannot_be_are_one_clear_line(purifier: Path, tmp_path: Path, run: Run) -> None:
    one_line(run("model", "export", purifier, tmp_path / "x.pth"), r"x\.pth: .*\.pt2 or \.onnx")
    one_line(run("model", "export", tmp_path, tmp_path / "x.pt2"), "no checkpoint there")
    one_line(run("model", "export", purifier, tmp_path / "x.pt2", "--height", 9999), "height is 9999")
    one_line(run("model", "export", purifier, tmp_path / "x.pt2", "--width", 0), "--width", 2)
    assert not list(tmp_path.glob("x.*"))


def test_a_strangers_config_does_no_harm(purifier: Path, tmp_path: Path, run: Run) -> None:
    for data in (7, {"collections": 7}, {"collections": [7, {}]}):
        small_run(purifier, data=data)
        one_line(run("model", "export", purifier, tmp_path / "x.pth"), r"x\.pth: ")


# --- convert ---


def test_the_release_becomes_a_run(tmp_path: Path, run: Run) -> None:
    path, _ = release(tmp_path, "both", args=True)
    said = json.loads(fine(run("model", "convert", path, tmp_path / "run", "--json")).stdout)
    assert (said["out"], said["mask"]) == (str(tmp_path / "run"), "both")
    assert said["parameters"] == sum(
        each.numel() for each in RIAE.from_pretrained(tmp_path / "run").parameters()
    )
    init = read_json(tmp_path / "run" / "config.json")["init"]
    assert (init["origin"], init["license"], init["file"], init["random"]) == (
        "release",
        "other",
        path.name,
        [],
    )
    assert "states no licence" in (tmp_path / "run" / "README.md").read_text().replace("\n", " ")
    one_line(run("model", "convert", path, tmp_path / "run"), "holds a run already; choose another")


def test_a_release_that_does_not_tell_its_mask(tmp_path: Path, run: Run) -> None:
    path, _ = release(tmp_path)
    one_line(run("model", "convert", path, tmp_path / "run"), "does not tell its masking mode; name it")
    assert not (tmp_path / "run").exists()
    said = fine(run("model", "convert", path, tmp_path / "run", "--mask", "both")).stdout
    assert f"Next: impure-eval --shards ROOT --checkpoint {tmp_path / 'run'}" in said


def test_what_is_no_release_is_one_clear_line(purifier: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "x.pth").write_bytes(b"no weights")
    one_line(
        run("model", "convert", tmp_path / "x.pth", tmp_path / "new"), r"x\.pth: not a readable checkpoint"
    )
    one_line(run("model", "convert", purifier / "model.safetensors", tmp_path / "new"), "has no tensor")
    one_line(run("model", "convert", tmp_path / "none.pth", tmp_path / "new"), "does not exist", 2)
    assert not (tmp_path / "new").exists()


# --- card and push ---


def test_the_card_of_the_best_weights_tells_of_the_runs_validation(purifier: Path, run: Run) -> None:
    for folder in (purifier, purifier / "best"):
        said = json.loads(fine(run("model", "card", folder, "--json")).stdout)
        assert said == {"file": str(folder / "README.md")}
        assert "70.00 %" in (folder / "README.md").read_text()
    shutil.rmtree(purifier / "best")
    (purifier / "best").mkdir()
    one_line(run("model", "card", purifier / "best"), r"config\.json: cannot be read")


def test_there_and_back(
    hub: Hub,  # noqa: F811
    purifier: Path,
    collection_root: Path,
    card: Path,
    imagenet: Path,
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    said = fine(run("model", "push", purifier / "best", "lab/small", "--private", "--json")).stdout
    assert json.loads(said)["url"].endswith("/lab/small") and hub.private == {"lab/small": True}
    assert set(hub.models["lab/small"]["main"]) == {"config.json", "model.safetensors", "README.md"}
    assert b"70.00 %" in hub.models["lab/small"]["main"]["README.md"]
    assert fine(run("model", "push", purifier, "lab/small", "--revision", "v2")).stdout.endswith(
        "/lab/small\n"
    )
    asked = ("--shards", collection_root, "--target", card, "--limit", 1, "--attacks", "pgd")
    fine(run("evaluate", *asked, "--defence", "riae", "--checkpoint", "lab/small@v2"))
    assert (tmp_path / "impure-report" / "report.md").exists() and not (tmp_path / "lab").exists()
    photo = next((imagenet / "val").rglob("*.png"))
    for checkpoint, out in (("lab/small", "hub.png"), (purifier, "here.png")):
        fine(run("purify", photo, tmp_path / out, "--checkpoint", checkpoint))
    assert (tmp_path / "hub.png").read_bytes() == (tmp_path / "here.png").read_bytes()
    one_line(
        run("purify", photo, "x.png", "--checkpoint", "lab/none"), "lab/none: no such path here, and the Hug"
    )


def test_what_the_hub_refuses_is_one_clear_line(
    hub: Hub,  # noqa: F811
    purifier: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    one_line(run("model", "push", purifier, "lab/small"), "lab/small: the Hugging Face Hub did not take")
    (purifier / "model.safetensors").unlink()
    one_line(run("model", "push", purifier, "lab/small"), "no checkpoint there")
    one_line(run("model", "push", purifier / "none", "lab/small"), "does not exist", 2)
