"""A small run that tests of several files compare with."""

import pytest

from tests.pipeline.generation.small_run import arguments


@pytest.fixture(scope="session")
def calm(imagenet, card, run, tmp_path_factory):
    """The root of an undisturbed run: eight shards; not to be changed."""
    root = tmp_path_factory.mktemp("calm") / "root"
    made = run("data", *arguments(imagenet, card, root))
    assert made.exit_code == 0, made.output
    return root
