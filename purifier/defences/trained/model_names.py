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


#: Adam as most of the papers have it: no decay, no warm-up, the usual second moment.
_ADAM: dict[str, Any] = {"weight_decay": 0.0, "warmup_epochs": 0, "beta2": 0.999}

#: NAME is the paper's network, NAME-tiny one for the built-in images, learnt within minutes on a CPU.
MODELS: dict[str, Model] = {
    "edsr": Model(network="edsr", training={"batch_size": 16, "crop": 96, **_ADAM, "learning_rate": 1e-4}),
    "edsr-tiny": Model(
        network="edsr",
        sizes={"blocks": 2, "width": 16},
        training={"epochs": 10, "batch_size": 8, **_ADAM, "learning_rate": 2e-3},
    ),
    "comdefend": Model(
        network="comdefend",
        training={"epochs": 20, "batch_size": 20, "crop": 32, **_ADAM, "learning_rate": 1e-3},
    ),
    "comdefend-tiny": Model(
        network="comdefend",
        sizes={"width": 3},
        training={"epochs": 60, "batch_size": 4, **_ADAM, "learning_rate": 2e-3},
    ),
    "magnet": Model(network="magnet", training={"batch_size": 256, **_ADAM, "learning_rate": 1e-3}),
    "magnet-tiny": Model(
        network="magnet",
        training={"epochs": 60, "batch_size": 16, **_ADAM, "learning_rate": 2e-2},
    ),
}
