"""What `verify` at level decode compares: norms, verdicts and hashes of the stored bytes."""

import numpy as np
import pytest

from impure.manifests.checks import verify
from impure.manifests.checks.verify import measure
from impure.manifests.collection.samples import Stored
from impure.manifests.collection.shard_id import ShardId
from impure.manifests.collection.storage import Storage
from tests.manifests.stored import pairs, write_collection, write_shard

SHARD = ShardId("toy", "pgd", "test", 0)


@pytest.fixture
def problems_with(tmp_path):
    """Everything found wrong with the samples of a shard whose first row says something else."""
    collection = write_collection(tmp_path, Storage())
    config = collection.read(SHARD).marker["config"]

    def problems(**changes):
        made = pairs("pgd")
        made[0][1].update(changes)
        write_shard(collection, SHARD, made, config, Storage())
        return list(verify._content_problems(collection.read(SHARD)))  # the command stops at the first

    return problems


def test_norms_are_of_the_stored_bytes():
    clean = np.full((2, 2, 3), 100, np.uint8)
    adversarial = clean.copy()
    adversarial[0, 0, 0] -= 5
    adversarial[1, 1, 2] += 2
    found = measure(Stored("k", 7, {}, {"clean": clean, "adv": adversarial}))
    assert (found["label"], found["height"], found["width"], found["linf_255"]) == (7, 2, 2, 5)
    assert found["l2"] == pytest.approx(29**0.5 / 255, rel=1e-12)


def test_a_norm_may_differ_by_float32_and_no_more(problems_with):
    l2 = pairs("pgd")[0][1]["l2"]
    assert problems_with(l2=float(np.float32(l2))) == []
    for factor in (1 + 1e-4, 1 - 1e-4):
        assert "l2 in the manifest" in problems_with(l2=l2 * factor)[0]


@pytest.mark.parametrize(
    ("verdict", "sound"),
    [
        ({"label": 0, "pred_adv": 1, "success": True}, True),
        ({"label": 0, "pred_adv": 0, "success": False}, True),
        ({"label": 0, "pred_adv": 0, "success": True}, False),
        ({"label": 0, "pred_adv": 1, "success": False}, False),
        ({"label": 0, "pred_adv": 1, "target_class": 1, "success": True}, True),
        ({"label": 0, "pred_adv": 2, "target_class": 1, "success": True}, False),
        ({"label": 0, "pred_adv": 0, "target_class": 0, "success": True}, True),
        ({"label": 0, "pred_adv": 1, "target_class": 0, "success": True}, False),
        ({"label": 0, "pred_adv": 1, "target_class": 0, "success": False}, True),
    ],
    ids=str,
)
def test_a_verdict_follows_from_the_prediction_and_the_target_class(problems_with, verdict, sound):
    found = [problem for problem in problems_with(**verdict) if "verdict" in problem]
    assert bool(found) is not sound


def test_a_change_beyond_the_budget_is_found(problems_with):
    linf = pairs("pgd")[0][1]["linf_255"]
    assert problems_with(eps_255=linf) == []
    assert f"leaves its budget of {linf - 1}/255" in problems_with(eps_255=linf - 1)[0]
