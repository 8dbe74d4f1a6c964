"""Reads a network that impure-train trained, and believes nothing of its files before it is checked."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from impure.manifests.base.errors import InputError
from impure.manifests.base.files import read_json
from impure.pipeline.targets.weights import load_strictly, shapes_of
from impure.purifier.defences.base.parameters import Value, check_values
from impure.purifier.defences.trained.base.trainable import TrainableNetwork
from impure.purifier.riae.pretrained import CONFIG, locate, read_parameters

NETWORK = "network"  # in config.json: the name and the sizes of a network that is no RIAE


def load_network(where: str, kind: type[TrainableNetwork]) -> TrainableNetwork:
    """Load a trained network for use: on the CPU, in eval mode.

    Args:
        where: A run's folder, its `model.safetensors`, or a name on the Hugging Face Hub.
        kind: What it must be.

    Raises:
        InputError: A file is missing or damaged, the config describes another network or an enormous one, or
            the weights do not fit it.
    """
    folder, file = locate(where)
    config = read_json(folder / CONFIG)
    name = network_name(config)
    if name != kind.name:
        raise InputError(f"{where}: a checkpoint of {name or 'riae'}; wanted is one of {kind.name}")
    sizes = read_sizes(config, kind, str(folder / CONFIG))
    with torch.device("meta"):
        expected = shapes_of(kind(**sizes).state_dict())
    weights = read_parameters(file, expected)
    network = kind(**sizes)
    load_strictly(network, weights, str(file))
    return network.eval()


def is_bare_file(where: str) -> bool:
    """Whether this is a file of weights with no config.json beside it: others' programs write no such."""
    path = Path(where)
    return path.is_file() and not (path.parent / CONFIG).exists()


def network_name(config: Mapping[str, Any]) -> str | None:
    """The name of the network that a config describes; None for a RIAE, or for nothing that is known."""
    network = config.get(NETWORK)
    name = network.get("name") if isinstance(network, dict) else None
    return name if isinstance(name, str) else None


def read_sizes(config: Mapping[str, Any], kind: type[TrainableNetwork], where: str) -> dict[str, Value]:
    """The sizes of a network that a config describes.

    Raises:
        InputError: A size is unknown or of another type.
    """
    sizes = {key: value for key, value in config[NETWORK].items() if key != "name"}
    return check_values(kind, sizes, where)
