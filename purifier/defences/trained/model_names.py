"""The networks beside RIAE that impure-train trains, by name, with the training that suits each; no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from impure.purifier.defences.parameters import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What a name of `--model` stands for.

    Attributes:
        network: A key of `NETWORKS` (see `defence_registry`).
        sizes: Of the network, in place of its constructor's defaults, which are the paper's.
        training: Fields of `TrainConfig`, in place of RIAE's.
    """

    network: str
    sizes: Mapping[str, Value] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)


#: NAME is the paper's network, NAME-tiny one for the built-in images, learnt within minutes on a CPU.
MODELS: dict[str, Model] = {}
