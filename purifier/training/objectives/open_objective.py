"""Builds what a training configuration names: RIAE, or the network of a defence, with its loss."""

from collections.abc import Mapping

from torch import nn

from impure.purifier.training.objectives.adversarial_objective import AdversarialObjective
from impure.purifier.training.objectives.network_objective import NetworkObjective
from impure.purifier.training.objectives.objective import Objective
from impure.purifier.training.objectives.riae_objective import RIAEObjective, check_features, new_riae
from impure.purifier.training.train_config import TrainConfig


def open_objective(
    config: TrainConfig, features: nn.Module | None, classifiers: Mapping[str, nn.Module] | None = None
) -> Objective:
    """The network with the initial weights of the run's seed, and its loss.

    Args:
        config: The training.
        features: The frozen network that the loss needs; None for none.
        classifiers: What stage adversarial attacks through, by name.

    Raises:
        InputError: The feature network or a classifier is missing or of no use, or a size is impossible.
    """
    if config.network:
        return NetworkObjective(config, features)
    check_features(config, features)
    if config.stage == "adversarial":
        return AdversarialObjective(config, new_riae(config), features, classifiers or {})
    return RIAEObjective(config, new_riae(config), features)
