"""Several targets whose weights come from files: made, trained on, evaluated, replayed."""

import json

import pytest
from safetensors.torch import load_file, save_file

from impure.manifests.base.files import read_json
from impure.purifier.riae.model import RIAE
from impure.purifier.riae.riae_config import preset
from tests.common import one_line, small_run

NAMES = ("first", "second")


@pytest.fixture(scope="module")
def options(card, tmp_path_factory):
    """`--target` and `--weights` of two targets whose cards name none; the second has twice the logits."""
    folder = tmp_path_factory.mktemp("targets")
    shipped = read_json(card)
    state = load_file(shipped["weights"])
    head = [name for name in state if ".fc." in f".{name}"]
    options = {}
    for scale, name in enumerate(NAMES, 1):
        save_file(state | {part: state[part] * scale for part in head}, folder / f"{name}.safetensors")
        (folder / f"{name}.json").write_text(json.dumps(shipped | {"name": name, "weights": ""}))
        options[name] = (folder / f"{name}.json", folder / f"{name}.safetensors")
    return options


@pytest.fixture(scope="module")
def root(options, imagenet, run, tmp_path_factory):
    """A collection of both targets."""
    root = tmp_path_factory.mktemp("several") / "root"
    for target, weights in options.values():
        made = run(
            "data", "generate", "--images", imagenet, "--target", target, "--weights", weights,
            "--attack", "clean,fgsm", "--per-class", 1, "--batch-size", 4, "--threads", 1, "--out", root,
        )  # fmt: skip
        assert made.exit_code == 0, made.output
    return root


def given(options, *names):
    """The options for both targets; the weights' names by name."""
    targets = [word for target, _ in options.values() for word in ("--target", target)]
    return targets + [word for name in names for word in ("--weights", f"{name}={options[name][1]}")]


def test_each_target_is_evaluated_with_its_own_weights(options, root, run, tmp_path):
    result = run(
        "evaluate",
        "--shards",
        root,
        "--defence",
        "none",
        "--out",
        tmp_path,
        "--json",
        *given(options, *NAMES),
    )
    assert result.exit_code == 0, result.output
    clean = {row["target"]: row for row in json.loads(result.stdout)["rows"] if row["attack"] == "clean"}
    assert [clean[name]["accuracy"] for name in NAMES] == [1, 1]


def test_a_report_is_never_lost_and_names_what_was_measured(options, root, run, tmp_path):
    purifier = small_run(tmp_path / "run", epoch=7)
    evaluation = ("evaluate", "--shards", root, "--defence", "none", "--limit", 1, *given(options, *NAMES))
    for more in ((), ("--seed", 3)):
        result = run(*evaluation, "--checkpoint", purifier, *more)
        assert result.exit_code == 0, result.output
    first, second = (read_json(purifier / name / "report.json") for name in ("report", "report-2"))
    assert (first["conditions"]["seed"], second["conditions"]["seed"]) == (0, 3)
    assert "report-2" in result.output and first["conditions"]["epoch"] == ["riae: 7"]
    assert len(first["conditions"]["weights_sha256"]) == 3
    assert first["conditions"]["date"] and any("torch " in text for text in first["conditions"]["software"])


def test_each_target_validates_with_its_own_weights(options, root, run, tmp_path):
    result = run(
        "train", "--shards", root, "--model", "tiny", "--epochs", 1, "--crop", 32, "--batch-size", 4,
        "--out", tmp_path / "run", *given(options, *NAMES),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    table = (tmp_path / "run" / "validation.csv").read_text()
    assert all(name in table for name in NAMES)


def test_each_target_classifies_again_with_its_own_weights(options, root, run):
    result = run("data", "verify", root, "--level", "replay", "--samples", 1, *given(options, *NAMES))
    assert result.exit_code == 0, result.output


def test_weights_of_nobody_are_one_clear_line(options, root, run, tmp_path):
    purifier = small_run(tmp_path / "run")
    evaluation = ("evaluate", "--shards", root, "--checkpoint", purifier, *given(options))
    file = options["first"][1]
    one_line(run(*evaluation, "--weights", file), "whose.*first, second; write --weights NAME=")
    one_line(run(*evaluation, "--weights", f"third={file}"), "the shards are of first, second")
    one_line(run(*evaluation, "--weights", f"first={file}"), "names no weights.*--weights second=FILE")
    one_line(run(*evaluation, *given(options, *NAMES, "first")), "those of first are given already")


def test_the_weights_of_another_target_are_one_clear_line(options, root, run):
    file = options["first"][1]
    swapped = [*given(options, "first"), "--weights", f"second={file}"]
    one_line(run("evaluate", "--shards", root, "--defence", "none", *swapped), "other weights.*second=FILE")


@pytest.mark.parametrize("command", [("train",), ("evaluate", "table1"), ("data", "verify")])
def test_help_says_that_targets_and_weights_can_be_repeated(run, command):
    text = " ".join(run(*command, "--help").output.split())
    assert text.count("Repeat it for more") >= 2
    assert "[NAME=]FILE" in text


def test_targets_are_attacked_in_turns_but_for_those_held_out(options, root, run, tmp_path):
    first = small_run(tmp_path / "first", RIAE(preset("tiny")))
    asked = (
        "train", "--shards", root, "--model", "tiny", "--stage", "adversarial", "--init", first, "--dry-run",
        "--threads", 1, "--attack-steps", 1, "--validate", "none", "--out", tmp_path / "run", "--json",
    )  # fmt: skip
    for more, counts in (
        (given(options, *NAMES), {"first/clean": 3, "second/clean": 3}),
        ([*given(options, "first"), "--hold-out", "second"], {"first/clean": 3}),
    ):
        result = run(*asked, *more)
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["composition"] == counts
    one_line(run(*asked, *given(options, *NAMES), "--hold-out", "second"), "the shards are of first")
