"""What a checkpoint's config says of the attacks that it learnt from."""

from pathlib import Path
from typing import Any

import pytest

from impure.manifests.base.errors import InputError
from impure.manifests.base.files import write_json
from impure.purifier.evaluation.tables.trained_on import TrainedOn, trained_on
from tests.common import small_run

SHARDS = ["a/fgsm/train/000000", "a/fgsm/train/000001", "a/pgd/train/000000", "b/clean/train/000000"]


def seen(**values: Any) -> TrainedOn:
    return TrainedOn(attacks=frozenset({"fgsm", "pgd"}), targets=frozenset({"a"}), **values)


def test_attacks_and_targets_are_those_of_its_shards(tmp_path: Path) -> None:
    assert trained_on(small_run(tmp_path, data={"shards": SHARDS})) == seen()
    assert seen().describe() == "fgsm, pgd on a"


@pytest.mark.parametrize(
    ("target", "attack", "named"),
    [
        ("a", "pgd", "black-box"),
        ("a", "cw", "agnostic"),
        ("b", "pgd", "transfer"),
        ("b", "pgd-e8", "transfer and agnostic"),
    ],
)
def test_threat_models_are_named(target: str, attack: str, named: str) -> None:
    assert seen().threat_model(target, attack) == named


@pytest.mark.parametrize("data", [None, {}, {"shards": "all"}, {"shards": ["a/pgd"]}, {"shards": [3]}, ["a"]])
def test_a_config_that_does_not_say_is_refused(data: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config.json: does not say which attacks .* table2"):
        trained_on(small_run(tmp_path, data=data))


def test_what_learnt_from_clean_images_alone_saw_no_attack(tmp_path: Path) -> None:
    photographs = trained_on(small_run(tmp_path / "photographs", data={"photographs": 9}))
    write_json(
        tmp_path / "clean" / "config.json", {"network": {"name": "comdefend"}, "data": {"shards": SHARDS}}
    )
    (tmp_path / "clean" / "model.safetensors").touch()
    for checkpoint in (photographs, trained_on(tmp_path / "clean")):
        assert checkpoint.describe() == "clean images alone"
        assert checkpoint.threat_model("a", "fgsm") == "agnostic"


def test_what_makes_its_own_attacks_saw_pgd(tmp_path: Path) -> None:
    own = trained_on(small_run(tmp_path / "riae", data={"shards": SHARDS}, train={"stage": "adversarial"}))
    network = {"network": {"name": "adversarial-training"}, "data": {"shards": SHARDS}}
    write_json(tmp_path / "net" / "config.json", network)
    (tmp_path / "net" / "model.safetensors").touch()
    for checkpoint in (own, trained_on(tmp_path / "net")):
        assert checkpoint.describe() == "pgd of its own making on a, b"
        assert checkpoint.threat_model("a", "pgd") == "black-box"
        assert checkpoint.threat_model("a", "fgsm") == "agnostic"


@pytest.mark.parametrize(
    ("init", "named"),
    [
        (
            {"origin": "impure", "file": "model.safetensors", "sha256": "f" * 64},
            "model.safetensors (ffffffffffff)",
        ),
        ({"origin": "mae", "file": "mae.pth", "sha256": "f" * 64}, ""),
        ({}, ""),
    ],
)
def test_weights_that_may_have_seen_more_are_named(init: dict[str, str], named: str, tmp_path: Path) -> None:
    assert trained_on(small_run(tmp_path, data={"shards": SHARDS}, init=init)) == seen(began_with=named)
