"""Masked gradients raise flags, and every line of the specification is there."""

from pathlib import Path

import pytest

from impure.manifests.collection.collection import CommittedShard
from impure.purifier.defences.base.defence import Defence
from impure.purifier.defences.static.gaussian_noise import GaussianNoise
from tests.purifier.evaluation.adaptive.small_evaluation import Erratic, Rounded, Shattered, failed, run

TRANSFER = "transfer from the bare target"
LINES = [
    "steps beat one step",
    "gradients beat queries",
    "full beats straight-through at 16/255",
    "straight-through beats blind at 16/255",
    "full beats transfer from the bare target at 16/255",
    "full beats straight-through at 100/255",
    "straight-through beats blind at 100/255",
    "full beats transfer from the bare target at 100/255",
    "accuracy falls to nothing at 128/255",
    "twice the steps change nothing at 16/255",
    "twice the steps change nothing at 100/255",
    "gradients are there",
    "a planted adversarial example is found",
    "verdicts are on 8-bit images inside the budget",
    "no defence gives the plain attack's numbers",
    "more draws a gradient change nothing",
    "gradients of ten draws agree",
    "fixed draws are no harder than fresh ones",
]


def test_every_line_is_there_and_an_honest_defence_passes(many: list[CommittedShard], tmp_path: Path) -> None:
    found = run(many, tmp_path, GaussianNoise(eps=8))
    assert [check.name for check in found.checks] == LINES and failed(found) == set()
    assert {record["flags"] for record in found.records} == {"", "not converged"}  # half of 8 steps is few


@pytest.mark.parametrize(
    ("defence", "flags"),
    [
        (Shattered(), {f"full beats {weaker} at 100/255" for weaker in ("straight-through", TRANSFER)}),
        (Erratic(), {"gradients of ten draws agree"}),
        (Rounded(), {"gradients are there", "a planted adversarial example is found"}),
    ],
    ids=["shattered", "stochastic", "missing"],
)  # fmt: skip
def test_masked_gradients_raise_flags(
    many: list[CommittedShard], tmp_path: Path, defence: Defence, flags: set[str]
) -> None:
    found = run(many, tmp_path, defence)
    assert flags <= failed(found) and found.is_broken
    assert all(f"failed: {name}" in record["flags"] for record in found.records for name in flags)
