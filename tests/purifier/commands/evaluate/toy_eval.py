"""Runs `impure-eval` on a tiny collection, whose target looks at brightness alone."""

import pytest
from click.testing import CliRunner, Result

from impure.cli import evaluate
from impure.pipeline.targets import of_collection
from tests.purifier.conftest import Brightness


def toy_eval(monkeypatch: pytest.MonkeyPatch, *words: object) -> Result:
    """The command with these words, on the CPU; shards of any target are of the toy."""
    monkeypatch.setattr(
        of_collection,
        "classifiers_of",
        lambda shards, *_: {shard.shard_id.target: Brightness() for shard in shards},
    )
    return CliRunner().invoke(evaluate, [*map(str, words), "--device", "cpu"])
