"""A network of a defence with the loss of its paper."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from impure.manifests.base.errors import InputError
from impure.manifests.base.files import sha256_file
from impure.purifier.checkpoints.init_weights import OUR_LICENSE
from impure.purifier.defences.base.defence import Defence
from impure.purifier.defences.defence_registry import NETWORKS
from impure.purifier.defences.trained.base.network_defence import NetworkDefence
from impure.purifier.defences.trained.base.trainable import Features, TrainableNetwork, TrainingImages
from impure.purifier.defences.trained.base.trained_weights import NETWORK, load_network
from impure.purifier.losses.feature_network import FeatureNetwork
from impure.purifier.riae.pretrained import locate
from impure.purifier.training.objectives.objective import Objective
from impure.purifier.training.train_config import TrainConfig


class _Losses(nn.Module):
    """The losses as a forward pass, which DDP can wrap."""

    def __init__(self, model: TrainableNetwork, features: Features | None) -> None:
        super().__init__()
        self.model = model
        self._features = features

    def forward(self, images: TrainingImages, generator: Generator) -> Tensor:
        """Losses (k,)."""
        return self.model.losses(images, generator, self._features)


class _Outputs:
    """A frozen network's outputs at some nodes, or its logits."""

    def __init__(self, network: nn.Module, nodes: tuple[str, ...], *, bf16: bool) -> None:
        self.network = FeatureNetwork(network, nodes, bf16=bf16) if nodes else frozen(network)
        self._nodes = nodes

    def __call__(self, images: Tensor) -> list[Tensor]:
        """See `Features`."""
        outputs = self.network(images)
        return [outputs[node] for node in self._nodes] if self._nodes else [outputs]


class NetworkObjective(Objective):
    """A `TrainableNetwork` in training mode."""

    def __init__(self, config: TrainConfig, features: nn.Module | None) -> None:
        """Build the network with the initial weights of the run's seed.

        Args:
            config: The training; its model names the network.
            features: The frozen network that the loss needs, in [0,1] space; None for none.

        Raises:
            InputError: A size is impossible, or `features` is missing or of no use.
        """
        self._defence: type[NetworkDefence] = NETWORKS[config.network]
        kind = self._defence.network_kind
        if (kind.features is None) != (features is None):
            need = "takes no feature network" if kind.features is None else "needs a feature network"
            raise InputError(f"model {config.preset!r} {need}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.model: TrainableNetwork = kind.begin(dict(config.sizes), features)
        self.model.train()
        nodes = config.nodes or (kind.features.nodes_of(config.feature_network) if kind.features else ())
        if set(config.lambdas) - {1.0}:
            raise InputError(f"model {config.preset!r} weighs no layers; write --feature-node NODE=1")
        outputs = _Outputs(features, nodes, bf16=config.bf16) if features else None
        self.frozen = (outputs.network,) if outputs else ()
        self.trained = _Losses(self.model, outputs)
        self.loss_names = kind.loss_names
        self.multiple = self.model.multiple

    def describe(self) -> Mapping[str, Any]:
        """The object `network`, from which `load_network` builds it."""
        return {NETWORK: {"name": self.model.name, **self.model.sizes()}}

    def losses(self, network: nn.Module, images: TrainingImages, generator: Generator) -> Tensor:
        """See `Objective.losses`."""
        losses: Tensor = network(images, generator)
        return losses

    def decays(self, name: str, weight: Tensor) -> bool:
        """Matrices and kernels."""
        return weight.dim() > 1

    def defence(self, model: nn.Module) -> Defence:
        """The defence with its parameters' defaults."""
        return self._defence(model)

    def begin_with(self, weights: Path) -> Mapping[str, Any]:
        """A run of the same network, or of its first stage, with the same sizes."""
        network = load_network(str(weights), self.model.first_stage or type(self.model))
        self.model.take(network, str(weights))
        file = locate(weights)[1]
        return {
            "origin": "impure",
            "file": file.name,
            "sha256": sha256_file(file),
            "license": OUR_LICENSE,
        }


def frozen(network: nn.Module) -> nn.Module:
    """The network in eval mode, its weights without gradients."""
    return network.requires_grad_(False).eval()
