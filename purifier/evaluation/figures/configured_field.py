"""Checkpoints compared by one configured field: how each is labelled, and in what else they differ."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

from impure.manifests.base.canonical_json import differing_fields
from impure.manifests.base.errors import InputError
from impure.purifier.losses.recipe import RECIPES

Config = Mapping[str, Any]

LONGEST = 100  # characters of a label
_IDENTITY = ("riae", "train", "data", "init")  # of a run, in its config.json


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredField:
    """A field, and how it is read from a run's config.json.

    Attributes:
        words: What it is called.
        value: Its value as a label; raises InputError where the config does not say it.
        names: The dotted names in config.json that make it up.
    """

    words: str
    value: Callable[[Config], str]
    names: tuple[str, ...]


def _mask(config: Config) -> str:
    """The masking mode that the network has."""
    return str(_object(config, "riae").get("mask", "both"))


def _nodes(config: Config) -> str:
    """The layers of the feature network in the loss that the network was trained with."""
    _object(config, "riae")
    train = _object(config, "train")
    nodes = train.get("nodes")
    recipe = RECIPES.get(str(train.get("recipe")))
    if not nodes and recipe is None:
        raise InputError("its config.json does not say which loss it was trained with")
    names = nodes if isinstance(nodes, list) and nodes else list(recipe.lambdas) if recipe else []
    return shorten(" + ".join(map(str, names)) or "pixels alone", LONGEST, placeholder=" …")


def _object(config: Config, name: str) -> Config:
    """An object inside a config, which may be a stranger's."""
    value = config.get(name)
    if not isinstance(value, dict):
        raise InputError(f"its config.json has no '{name}' object; it is no RIAE that impure-train trained")
    return value


MASK = ConfiguredField(words="masking mode", value=_mask, names=("riae.mask", "train.mask"))
NODES = ConfiguredField(
    words="perceptual layers",
    value=_nodes,
    names=("train.recipe", "train.feature_network", "train.nodes", "train.lambdas"),
)


def labels(configs: Mapping[str, Config], field: ConfiguredField) -> dict[str, str]:
    """What each checkpoint is labelled: the field's value, with its own name where several share it.

    Args:
        configs: config.json by what tells the checkpoints apart.
        field: By which they are compared.

    Raises:
        InputError: A config does not say the field; the message names the checkpoint.
    """
    values: dict[str, str] = {}
    for name, config in configs.items():
        try:
            values[name] = field.value(config)
        except InputError as error:
            raise InputError(f"--checkpoint {name}: {error}") from error
    count = Counter(values.values())
    return {name: value if count[value] == 1 else f"{value} ({name})" for name, value in values.items()}


def other_differences(configs: Sequence[Config], field: ConfiguredField) -> list[str]:
    """Dotted names of what else some of the configs differ in: what the comparison may be about instead."""
    first, *others = ({name: config.get(name) for name in _IDENTITY} for config in configs)
    names = {line.split(" ", 1)[0] for other in others for line in differing_fields(first, other)}
    return sorted(names - set(field.names))
