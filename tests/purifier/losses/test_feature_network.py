import copy
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from impure.manifests.base.errors import InputError
from impure.purifier.losses.feature_network import FeatureNetwork
from impure.purifier.losses.recipe import RECIPES

CODE, PAPER = (RECIPES[name].lambdas for name in ("code", "paper"))


def randomise(network: nn.Module) -> nn.Module:
    """BatchNorms as after a training: at first they are the identity."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return network.eval()


def plain_features(network: nn.Module, nodes: Any, images: Tensor) -> dict[str, Tensor]:
    """By hooks alone."""
    outputs: dict[str, Tensor] = {}
    for node in nodes:
        network.get_submodule(node).register_forward_hook(
            lambda module, inputs, output, node=node: outputs.update({node: output.clone()})
        )
    with torch.no_grad():
        network(images)
    return outputs


def assert_close(outputs: dict[str, Tensor], wanted: dict[str, Tensor], relative: float = 1e-4) -> None:
    assert outputs.keys() == wanted.keys()
    for node, output in outputs.items():
        assert (output - wanted[node]).norm() <= relative * wanted[node].norm(), node
        assert wanted[node].norm() > 0, node


class Target(nn.Module):
    """As the pipeline's: normalises inside."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 0.4))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network((images - self.mean) / 0.2)
        return logits


def thin_vgg(name: str) -> nn.Module:
    """torchvision's VGG19 with narrow layers: the same nodes at a hundredth of the work."""
    layers = [4, 4, "M", 4, 4, "M", *[8] * 4, "M", *[8] * 4, "M", *[8] * 4, "M"]
    with torch.device("meta"):
        network = torchvision.models.VGG(nn.Identity(), init_weights=False)
    network.features = torchvision.models.vgg.make_layers(layers, batch_norm=name.endswith("_bn"))
    for index, (width, out) in {0: (8 * 49, 32), 3: (32, 32), 6: (32, 7)}.items():
        network.classifier[index] = nn.Linear(width, out)
    return randomise(network)


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize(("name", "nodes"), [("vgg19_bn", CODE), ("vgg19", PAPER)])
def test_folded_features_of_the_recipes_equal_the_unfolded(name: str, nodes: dict[str, float]) -> None:
    network, images = thin_vgg(name), torch.rand(3, 3, 64, 96)
    with torch.device("meta"):
        full = torchvision.models.get_model(name).features
    assert [type(each) for each in network.features] == [type(each) for each in full]
    wanted = plain_features(copy.deepcopy(network), nodes, images)
    features = FeatureNetwork(Target(network), nodes)
    assert_close(features(images * 0.2 + 0.4), wanted)
    assert not any(isinstance(each, nn.BatchNorm2d) for each in network.modules())
    assert_close(features(images * 0.2 + 0.4), wanted)  # the pass that stops early


def test_wanted_convolutions_and_batchnorms_keep_their_meaning() -> None:
    network, images = thin_vgg("vgg19_bn"), torch.rand(2, 3, 32, 32)
    nodes = ["features.0", "features.1", "features.4", "features.5", "features", "classifier"]
    wanted = plain_features(copy.deepcopy(network), nodes, images)
    assert_close(FeatureNetwork(network, nodes)(images), wanted)
    left = [index for index, each in enumerate(network.features) if isinstance(each, nn.BatchNorm2d)]
    assert left == [1]  # behind the convolution whose own output is wanted


@pytest.mark.parametrize(
    ("make", "nodes"),
    [
        (lambda: torchvision.models.resnet18(num_classes=5), ["layer1.0.bn2", "layer2.0.relu"]),
        (lambda: torchvision.models.densenet121(num_classes=5), ["features.transition1", "features"]),
        (lambda: torchvision.models.mobilenet_v3_small(num_classes=5), ["features.3", "classifier.1"]),
        (lambda: timm.create_model("resnet10t", num_classes=5), ["conv1.1", "layer2", "fc"]),
        (lambda: timm.create_model("test_vit", num_classes=5), ["blocks.1", "norm"]),
        (lambda: timm.create_model("test_efficientnet", num_classes=5), ["blocks.1.0", "bn2"]),
    ],
)
def test_features_of_other_networks(make: Callable[[], nn.Module], nodes: list[str]) -> None:
    """Layers that overwrite what is noted, are called several times, or must not be folded."""
    network = randomise(make())
    size = getattr(network, "default_cfg", {}).get("input_size", (3, 64, 64))[-1]
    images = torch.rand(2, 3, size, size)
    wanted = plain_features(copy.deepcopy(network), nodes, images)
    features = FeatureNetwork(network, nodes)
    assert_close(features(images), wanted)
    assert_close(features(images), wanted)


def test_nothing_is_computed_behind_the_last_node() -> None:
    network, calls = thin_vgg("vgg19_bn"), Counter[str]()
    for name in ("features.51", "features.52", "classifier.2"):
        network.get_submodule(name).register_forward_hook(lambda *_, name=name: calls.update([name]))
    features = FeatureNetwork(network, ["features.51", "features.38"])
    for _ in range(3):
        features(torch.rand(1, 3, 32, 32))
    assert calls == {"features.51": 3, "features.52": 1, "classifier.2": 1}


def test_shared_convolutions_and_own_forwards_are_not_folded() -> None:
    class Taps(nn.Sequential):
        def forward(self, images: Tensor) -> Tensor:
            return self[1](self[0](images)) + self[0](images)

    conv = nn.Conv2d(3, 3, 1)
    network = randomise(
        nn.Sequential(conv, nn.BatchNorm2d(3), conv, Taps(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    )
    images = torch.rand(2, 3, 8, 8)
    wanted = plain_features(copy.deepcopy(network), ["3"], images)
    assert_close(FeatureNetwork(network, ["3"])(images), wanted, 1e-6)


def test_bfloat16_weights_give_autocasts_bits() -> None:
    network, images = thin_vgg("vgg19_bn"), torch.rand(2, 3, 32, 32)
    rounded = FeatureNetwork(copy.deepcopy(network), CODE, bf16=True)
    with torch.autocast("cpu", torch.bfloat16):
        wanted = FeatureNetwork(network, CODE)(images)
    for node, output in rounded(images).items():
        assert output.dtype == torch.bfloat16 and torch.equal(output, wanted[node])


def test_gradients_equal_the_unfolded_networks_and_leave_the_weights_alone() -> None:
    network = thin_vgg("vgg19_bn").double()
    plain, images = copy.deepcopy(network), torch.rand(2, 3, 32, 32).double().requires_grad_()
    features = FeatureNetwork(network.train(), ["features.38"])
    features(torch.rand(1, 3, 32, 32).double())
    (gradient,) = torch.autograd.grad(features(images)["features.38"].sum(), images)
    (wanted,) = torch.autograd.grad(plain.features[:39](images).sum(), images)
    assert wanted.norm() > 0 and (gradient - wanted).norm() < 1e-10 * wanted.norm()
    assert not features.network.training
    assert not any(weight.requires_grad for weight in features.parameters())


def test_compiles_and_copies() -> None:
    features, images = FeatureNetwork(thin_vgg("vgg19_bn"), CODE), torch.rand(2, 3, 32, 32)
    wanted = features(images)
    assert_close(copy.deepcopy(features)(images), wanted, 1e-6)
    assert_close(torch.compile(features, backend="aot_eager")(images), wanted, 1e-5)


def test_wrong_nodes() -> None:
    class Two(nn.Module):
        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            return images, images

    class Spare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.main, self.auxiliary = nn.Flatten(), nn.Flatten()

        def forward(self, images: Tensor) -> Tensor:
            result: Tensor = self.main(images)
            return result

    with pytest.raises(InputError, match=r"no node 'features\.60'; close names are features\.\d"):
        FeatureNetwork(thin_vgg("vgg19"), ["features.60"])
    with pytest.raises(InputError, match="several nodes 'x'; close names are 0.x, 1.x"):
        FeatureNetwork(nn.Sequential(*(nn.ModuleDict({"x": nn.ReLU()}) for _ in range(2))), ["x"])
    with pytest.raises(InputError, match="puts out a tuple"):
        FeatureNetwork(nn.Sequential(Two()), ["0"])(torch.rand(1, 3, 8, 8))
    with pytest.raises(InputError, match="'auxiliary' plays no part"):
        FeatureNetwork(Spare(), ["auxiliary"])(torch.rand(1, 3, 8, 8))
