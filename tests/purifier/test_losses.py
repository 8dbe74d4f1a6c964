import pytest
import torch
from torch import nn

from impure.manifests.errors import InputError
from impure.purifier.losses import RECIPES, PerceptualLoss, l1


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4 * 36, 5))


def test_perceptual_loss_equals_the_direct_computation() -> None:
    net, images, clean = network(), torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    loss = PerceptualLoss(net, {"0": 2.0, "3": 0.5})  # node 0 would be overwritten by the in-place ReLU
    conv = (net[0](images) - net[0](clean)).abs()
    last = (net(images) - net(clean)).abs()
    assert torch.allclose(loss(images, clean), 2 * conv.mean() + 0.5 * last.mean())
    paper = PerceptualLoss(net, {"0": 2.0}, per_position=True)
    assert torch.allclose(paper(images, clean), 2 * conv.sum(1).mean())


def test_the_network_is_frozen_and_the_image_is_not() -> None:
    net, images = network().train(), torch.rand(2, 3, 8, 8, requires_grad=True)
    PerceptualLoss(net, {"1": 1.0})(images, torch.rand(2, 3, 8, 8)).backward()
    assert images.grad is not None and images.grad.abs().sum() > 0
    assert not net.training and all(each.grad is None for each in net.parameters())


def test_unknown_node_lists_names_like_it() -> None:
    net = nn.Sequential()
    net.add_module("features", network())
    with pytest.raises(InputError, match=r"no node 'features\.9'; close names are features\.\d"):
        PerceptualLoss(net, {"features.9": 1.0})


def test_a_node_inside_a_target_is_found_by_the_librarys_name() -> None:
    inner, images, clean = network(), torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    target = nn.Sequential()
    target.add_module("network", inner)
    assert torch.equal(
        PerceptualLoss(target, {"3": 1.0})(images, clean), PerceptualLoss(inner, {"3": 1.0})(images, clean)
    )
    doubled = nn.Sequential(inner, network())
    with pytest.raises(InputError, match="several nodes '2'; close names are 0.2, 1.2"):
        PerceptualLoss(doubled, {"2": 1.0})


def test_node_without_a_tensor() -> None:
    class Pair(nn.Module):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return images, images

    with pytest.raises(InputError, match="puts out a tuple"):
        PerceptualLoss(nn.Sequential(Pair()), {"0": 1.0}).features(torch.rand(1, 3, 8, 8))


def test_l1_per_position_sums_channels() -> None:
    output, wanted = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    assert torch.allclose(l1(output, wanted, True), (output - wanted).abs().sum() / (2 * 4 * 5))
    assert torch.allclose(l1(output, wanted), (output - wanted).abs().mean())


def test_recipes_name_layers_of_vgg() -> None:
    import torchvision

    with torch.device("meta"):
        networks = {name: getattr(torchvision.models, name)() for name in ("vgg19_bn", "vgg19")}
    kinds = {}
    for name in ("code", "paper"):
        modules = dict(networks[RECIPES[name].network.removeprefix("torchvision:")].named_modules())
        kinds[name] = [type(modules[node]).__name__ for node in RECIPES[name].lambdas]
    assert kinds == {"code": ["ReLU"] * 3, "paper": ["ReLU", "ReLU", "Linear"]}
