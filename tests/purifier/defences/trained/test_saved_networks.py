"""Every trained network comes back from its checkpoint, with the statistics of its BatchNorms."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from impure.purifier.checkpoints.checkpoint import save_weights
from impure.purifier.defences.open_checkpoint import open_checkpoint
from impure.purifier.defences.trained.base.network_defence import NetworkDefence
from impure.purifier.defences.trained.base.trainable import FeatureDefault, TrainingImages
from tests.purifier.defences.small_defences import SMALL

IMAGES = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def logits(images: Tensor) -> Tensor:
    return images.mean((2, 3))


#: RIAE and diffusion models have tests of their own.
NAMES = [name for name in SMALL if name not in ("riae", "diffpure", "consistency")]


@pytest.mark.parametrize("name", NAMES)
def test_a_network_after_one_update(name: str, tmp_path: Path) -> None:
    defence = SMALL[name]()
    network = defence.network  # type: ignore[attr-defined]
    images = TrainingImages(IMAGES, IMAGES[:2], torch.tensor([0, 1, 1, 0]), torch.arange(4))
    optimizer = torch.optim.SGD(network.train().parameters(), 0.01)
    features = (lambda images: [logits(images)]) if network.features else None
    losses = network.losses(images, torch.Generator().manual_seed(1), features)
    assert losses.shape == (len(network.loss_names),)
    losses[0].backward()
    optimizer.step()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(norm.num_batches_tracked for norm in norms)  # moved by the loss's own pass
    config = {"network": {"name": network.name, **network.sizes()}}
    save_weights(tmp_path, network.state_dict(), config)
    opened = open_checkpoint(tmp_path)
    assert opened.name == name
    assert isinstance(opened.defence, NetworkDefence) and not opened.defence.training
    defence.eval()
    with torch.no_grad():
        shown, wanted = opened.defence(IMAGES), defence(IMAGES)
        assert torch.equal(opened.defence.classify(shown, logits), defence.classify(wanted, logits))


def test_another_feature_network_has_other_nodes() -> None:
    default = FeatureDefault(network="torchvision:vgg19", nodes=("classifier.4",))
    assert default.nodes_of("") == default.nodes_of("torchvision:vgg19") == ("classifier.4",)
    assert default.nodes_of("builtin") == ()
