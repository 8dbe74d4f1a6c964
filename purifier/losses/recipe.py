"""Recipes of training: which feature network, which of its layers, which weights, how mixed; no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Combination = Literal["code", "paper", "release"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A perceptual loss: which network, which of its layers, how they are weighed."""

    network: str = ""  # "" for none
    lambdas: Mapping[str, float] = field(default_factory=dict)  # submodule -> weight (lambda_i of Eq. 14)
    combination: Combination = "code"
    per_position: bool = False  # sum over channels, mean over positions (Eqs. 12, 13); else mean over all
    as_released: bool = False  # the authors' program in other things too: see docs/release.md


RECIPES: dict[str, Recipe] = {
    "code": Recipe(
        network="torchvision:vgg19_bn", lambdas={"features.38": 30, "features.51": 10, "classifier.1": 10}
    ),
    "release": Recipe(
        network="torchvision:vgg19_bn",
        lambdas={"features.38": 30, "features.51": 10, "classifier.1": 10},
        combination="release",
        as_released=True,
    ),
    "paper": Recipe(
        network="torchvision:vgg19",
        lambdas={"features.26": 30, "features.35": 10, "classifier.6": 5},
        combination="paper",
        per_position=True,
    ),
    "pixel": Recipe(),
}
