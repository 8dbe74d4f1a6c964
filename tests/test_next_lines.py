"""What commands say to type next can be typed: the lines are pasted, and do what they say."""

import shlex

import pytest

from tests.common import PLAIN

COMMANDS = {"impure-data": "data", "impure-train": "train", "impure-eval": "evaluate"}


@pytest.fixture
def generate(imagenet, card, run, tmp_path):
    """Adds one split to a collection whose target is a card; returns the lines that are said to be next."""

    def start(split):
        made = run(
            "data", "generate", "--images", imagenet, "--target", card, "--attack", "fgsm", "--split", split,
            "--per-class", 1, "--batch-size", 3, "--threads", 1, "--out", tmp_path / "a root",
        )  # fmt: skip
        return next_lines(made)

    return start


def next_lines(result):
    """The commands that a command's output ends with, each a list of words."""
    assert result.exit_code == 0, result.output
    said = result.stdout[result.stdout.index("Next") :].splitlines()
    return [shlex.split(line.partition(": ")[2] or line) for line in said]


@pytest.fixture
def paste(run):
    def start(words, *more):
        result = run(COMMANDS[words[0]], *words[1:], *more)
        assert result.exit_code == 0, (words, result.output)
        return result

    return start


def test_images_to_validate_with_alone_are_only_looked_at(generate, paste):
    (preview,) = generate("val")
    assert preview[:2] == ["impure-data", "preview"]
    paste(preview)


def test_the_lines_lead_from_pairs_to_a_report(generate, paste, tmp_path):
    *_, train = generate("train")
    assert "--target" not in train, "nothing to validate with yet: the target would be refused"
    paste(train, "--model", "tiny", "--dry-run", "--out", tmp_path / "dry")
    generate("val")
    preview, train = generate("train")
    paste(preview)
    trained = paste(train, *PLAIN, "--out", tmp_path / "run")
    assert "No validation" not in trained.stderr
    (evaluate,) = next_lines(trained)
    paste(evaluate, "--defence", "none,riae", "--limit", 1, "--out", tmp_path / "report")


def test_a_run_on_one_split_is_evaluated_there(generate, paste, card, tmp_path):
    """Without its card nobody knows where the target is: the line says what has to be added."""
    *_, train = generate("train")
    trained = paste(train, *PLAIN, "--out", tmp_path / "run")
    assert "Next, with --target CARD of small: impure-eval" in trained.stdout
    (evaluate,) = next_lines(trained)
    assert evaluate[-4:-2] == ["--split", "train"]
    paste(evaluate, "--target", card, "--defence", "none", "--out", tmp_path / "report")
