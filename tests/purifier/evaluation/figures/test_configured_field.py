"""Checkpoints are labelled by one field of their configuration, and what else differs is said."""

from typing import Any

import pytest

from impure.manifests.base.errors import InputError
from impure.purifier.evaluation.figures.accuracy_bars import Bar, accuracy_bars
from impure.purifier.evaluation.figures.configured_field import (
    LONGEST,
    MASK,
    NODES,
    labels,
    other_differences,
)
from impure.purifier.evaluation.figures.plot_style import svg


def config(mask: str = "both", **train: Any) -> dict[str, Any]:
    chosen = {"mask": mask, "recipe": "pixel", "nodes": [], "lambdas": [], "feature_network": "", "seed": 0}
    return {"riae": {"mask": mask}, "train": {**chosen, **train}, "data": {"pairs": 3}, "software": {}}


def test_masking_modes() -> None:
    configs = {"a": config("occlusion"), "b": config("both"), "c": config("both", seed=1)}
    assert labels(configs, MASK) == {"a": "occlusion", "b": "both (b)", "c": "both (c)"}
    assert other_differences(list(configs.values()), MASK) == ["train.seed"]
    assert other_differences([configs["a"], configs["b"]], MASK) == []


def test_perceptual_layers_are_those_of_the_recipe_or_of_the_run() -> None:
    own = config(
        recipe="code", nodes=["layer3", "layer4"], lambdas=[10, 5], feature_network="torchvision:resnet50"
    )
    configs = {"pixel": config(), "code": config(recipe="code"), "own": own}
    assert labels(configs, NODES) == {
        "pixel": "pixels alone",
        "code": "features.38 + features.51 + classifier.1",
        "own": "layer3 + layer4",
    }
    assert other_differences(list(configs.values()), NODES) == []
    configs["code"]["data"] = {"pairs": 4}
    assert other_differences(list(configs.values()), NODES) == ["data.pairs"]


def test_a_strangers_label_is_short_and_no_formula() -> None:
    name = labels({"run": config(nodes=[r"$\\frac{", *["layer"] * 99])}, NODES)["run"]
    assert len(name) <= LONGEST and name.endswith("…")
    assert "frac{ + layer" in svg(accuracy_bars([Bar("pgd", name, 0.5, 0.4, 0.6)], "toy"))


@pytest.mark.parametrize(
    ("field", "damaged", "said"),
    [
        (MASK, {"network": "hgd"}, "--checkpoint run: its config.json has no 'riae' object"),
        (NODES, {"riae": {}, "init": {}}, "has no 'train' object"),
        (NODES, {"riae": {}, "train": {"recipe": "mine"}}, "does not say which loss"),
    ],
)
def test_what_a_config_does_not_say_is_one_line(field: Any, damaged: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        labels({"run": damaged}, field)
