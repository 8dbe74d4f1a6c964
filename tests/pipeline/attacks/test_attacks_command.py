"""`impure-data attacks` lists what is registered."""

import json

from impure.pipeline.attacks.attack_registry import ATTACKS
from tests.conftest import run


def test_every_attack_is_listed_with_source_and_parameters():
    text = run("data", "attacks").stdout
    words = " ".join(text.split())
    for name, spec in ATTACKS.items():
        assert f"{name} {spec.summary}" in words
    assert "queries=5000, p_init=0.8" in words


def test_the_list_as_json():
    listed = json.loads(run("data", "attacks", "--json").stdout)
    assert list(listed) == list(ATTACKS)
    assert listed["pgd"]["parameters"] == ATTACKS["pgd"].paper
