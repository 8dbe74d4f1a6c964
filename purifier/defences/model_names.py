"""The networks beside RIAE that impure-train trains, by name, with the training that suits each; no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from impure.pipeline.sources.source_names import BUILTIN
from impure.purifier.defences.base.parameters import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What a name of `--model` stands for.

    Attributes:
        network: A key of `NETWORKS` (see `defence_registry`).
        sizes: Of the network, in place of its constructor's defaults, which are the paper's.
        training: Fields of `TrainConfig`, in place of RIAE's.
        first_stage: The name whose run it begins with (`--init`); "" where none is needed.
    """

    network: str
    sizes: Mapping[str, Value] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    first_stage: str = ""


#: Adam as most of the papers have it: no decay, no warm-up, the usual second moment.
_ADAM: dict[str, Any] = {"weight_decay": 0.0, "warmup_epochs": 0, "beta2": 0.999}

_TINY_DIR: dict[str, Value] = {
    "patch": 4, "width": 64, "depth": 2, "heads": 4, "decoder_width": 64, "decoder_depth": 1,
    "decoder_heads": 4, "position_period": 30.0, "position_scale": 3.0,
}  # fmt: skip

#: NAME is the paper's network, NAME-tiny one for the built-in images, learnt within minutes on a CPU.
MODELS: dict[str, Model] = {
    "edsr": Model(network="edsr", training={"batch_size": 16, "crop": 96, **_ADAM, "learning_rate": 1e-4}),
    "edsr-tiny": Model(
        network="edsr",
        sizes={"blocks": 2, "width": 16},
        training={"epochs": 20, "batch_size": 8, **_ADAM, "learning_rate": 2e-3},
    ),
    "comdefend": Model(
        network="comdefend",
        training={"epochs": 20, "batch_size": 20, "crop": 32, **_ADAM, "learning_rate": 1e-3},
    ),
    "comdefend-tiny": Model(
        network="comdefend",
        sizes={"width": 2},
        training={"epochs": 30, "batch_size": 4, **_ADAM, "learning_rate": 4e-3},
    ),
    "magnet": Model(network="magnet", training={"batch_size": 256, **_ADAM, "learning_rate": 1e-3}),
    "magnet-tiny": Model(
        network="magnet",
        training={"epochs": 20, "batch_size": 4, **_ADAM, "learning_rate": 2e-2},
    ),
    # Adam at 0.001 for 20 to 30 epochs (section 5.2).
    "hgd": Model(
        network="hgd",
        training={"epochs": 30, "batch_size": 32, **_ADAM, "learning_rate": 1e-3},
    ),
    "hgd-tiny": Model(
        network="hgd",
        sizes={"width": 8, "levels": 3},
        training={"epochs": 4, "learning_rate": 3e-3, "batch_size": 16, "warmup_epochs": 1},
    ),
    # The paper does not say how it was trained: SRGAN's Adam.
    "recon": Model(
        network="recon",
        training={"epochs": 30, "batch_size": 16, **_ADAM},
    ),
    "recon-tiny": Model(
        network="recon",
        sizes={"width": 8, "blocks": 2},
        training={
            "epochs": 2, "learning_rate": 3e-3, "batch_size": 16, "warmup_epochs": 1,
            "feature_network": BUILTIN,
        },
    ),
    "dir": Model(network="dir"),  # trained as RIAE is
    "dir-tiny": Model(
        network="dir",
        sizes=_TINY_DIR,
        training={"epochs": 4, "learning_rate": 5e-3, "batch_size": 16, "warmup_epochs": 1},
    ),
    "dir-joint": Model(network="dir-joint", first_stage="dir"),
    "dir-joint-tiny": Model(
        network="dir-joint",
        sizes=_TINY_DIR,
        training={"epochs": 2, "learning_rate": 3e-4, "batch_size": 16, "warmup_epochs": 1},
        first_stage="dir-tiny",
    ),
    # It begins with the target's weights: less than Madry's 200 epochs, at a small learning rate.
    "adversarial-training": Model(
        network="adversarial-training", training={"epochs": 30, "weight_decay": 2e-4, "beta2": 0.999}
    ),
    "adversarial-training-tiny": Model(
        network="adversarial-training",
        sizes={"eps": 8, "steps": 4},
        training={"epochs": 10, "learning_rate": 1e-3, "batch_size": 32, "warmup_epochs": 1},
    ),
    "disco": Model(
        network="disco",
        training={"batch_size": 16, "crop": 48, "clean_pairs": False, **_ADAM, "learning_rate": 1e-4},
    ),
    "disco-tiny": Model(
        network="disco",
        sizes={"width": 16, "blocks": 2, "hidden": 32, "layers": 2},
        training={"epochs": 3, "batch_size": 16, "clean_pairs": False, **_ADAM, "learning_rate": 3e-3},
    ),
    "nrp": Model(network="nrp", training={"batch_size": 16, "crop": 128, **_ADAM, "learning_rate": 1e-4}),
    "nrp-tiny": Model(
        network="nrp",
        sizes={"kind": "residual", "width": 24, "blocks": 3, "steps": 5},
        training={
            "feature_network": "builtin",
            "nodes": ("stages.1",),
            "lambdas": (1.0,),
            "epochs": 2,
            "batch_size": 16,
            **_ADAM,
            "learning_rate": 3e-3,
        },
    ),
    # Ho et al. 2020, appendix B: besides, a moving average of the weights, and clipped gradients.
    "ddpm": Model(
        network="ddpm",
        training={"batch_size": 128, **_ADAM, "learning_rate": 2e-4, "clip_grad": 1.0, "ema_decay": 0.9999},
    ),
    "ddpm-tiny": Model(
        network="ddpm",
        sizes={"channels": 16, "levels": 3, "blocks": 1, "attention": 2},
        training={
            "epochs": 30,
            "batch_size": 32,
            **_ADAM,
            "learning_rate": 2e-3,
            "clip_grad": 1.0,
            "ema_decay": 0.99,
        },
    ),
}  # fmt: skip
