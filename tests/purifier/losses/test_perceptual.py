import pytest
import torch
from torch import nn

from impure.manifests.base.errors import InputError
from impure.purifier.losses.perceptual import PerceptualLoss, l1
from impure.purifier.losses.recipe import RECIPES


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4 * 36, 5))


def pairs(count: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.rand(count, 3, 8, 8), torch.rand(count, 3, 8, 8), torch.arange(count)


def test_perceptual_loss_equals_the_direct_computation() -> None:
    net, (images, clean, clean_row) = network(), pairs()
    conv = (net[0](images) - net[0](clean)).abs()
    last = (net(images) - net(clean)).abs()
    loss = PerceptualLoss(net, {"0": 2.0, "3": 0.5})  # node 0 would be overwritten by the in-place ReLU
    assert torch.allclose(loss(images, clean, clean_row), 2 * conv.mean() + 0.5 * last.mean())
    paper = PerceptualLoss(net, {"0": 2.0}, per_position=True)
    assert torch.allclose(paper(images, clean, clean_row), 2 * conv.sum(1).mean())


def test_shared_clean_images_are_computed_once_with_the_same_result() -> None:
    net, clean_row = network().double(), torch.tensor([1, 0, 1, 1, 2])
    images, clean = torch.rand(5, 3, 8, 8).double().requires_grad_(), torch.rand(3, 3, 8, 8).double()
    loss, sizes = PerceptualLoss(net, {"1": 2.0, "3": 0.5}), []
    net[0].register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    shared = loss(images, clean, clean_row)
    pairwise = loss(images, clean[clean_row], torch.arange(5))
    assert torch.equal(shared, pairwise) and sizes == [3, 5, 5, 5]
    assert torch.equal(*(torch.autograd.grad(each, images)[0] for each in (shared, pairwise)))


def test_the_network_is_frozen_and_the_image_is_not() -> None:
    net, (images, clean, clean_row) = network().train(), pairs()
    PerceptualLoss(net, {"1": 1.0})(images.requires_grad_(), clean, clean_row).backward()
    assert images.grad is not None and images.grad.abs().sum() > 0
    assert not net.training and all(each.grad is None for each in net.parameters())


def test_a_node_inside_a_target_is_found_by_the_librarys_name() -> None:
    inner, given = network(), pairs()
    target = nn.Sequential()
    target.add_module("network", inner)
    assert torch.equal(PerceptualLoss(target, {"3": 1.0})(*given), PerceptualLoss(inner, {"3": 1.0})(*given))
    with pytest.raises(InputError, match="several nodes '2'; close names are 0.2, 1.2"):
        PerceptualLoss(nn.Sequential(inner, network()), {"2": 1.0})


@pytest.mark.parametrize("bf16", [True, False])
def test_rounded_features_are_compared_in_float32(bf16: bool) -> None:
    loss, given = PerceptualLoss(network(), {"0": 2.0, "3": 0.5}, bf16=bf16), pairs()
    with torch.autocast("cpu", torch.bfloat16):
        loss_value = loss(*given)
        made, wanted = loss.features(given[0]), loss.features(given[1])
    assert loss_value.dtype == torch.float32 and made["3"].dtype == torch.bfloat16
    terms = [
        w * (made[node].double() - wanted[node].double()).abs().mean() for node, w in loss.lambdas.items()
    ]
    assert abs(loss_value - sum(terms)) < 1e-6


def test_l1_per_position_sums_channels() -> None:
    output, wanted = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    assert torch.allclose(l1(output, wanted, True), (output - wanted).abs().sum() / (2 * 4 * 5))
    assert torch.allclose(l1(output, wanted), (output - wanted).abs().mean())
    tokens = l1(output.flatten(2).mT, wanted.flatten(2).mT, True)
    assert torch.allclose(tokens, l1(output, wanted, True))
    logits = l1(output[:, :, 0, 0], wanted[:, :, 0, 0], True)
    assert torch.allclose(logits, (output - wanted)[:, :, 0, 0].abs().sum(1).mean())


def test_recipes_name_the_layers_of_the_specification() -> None:
    """Last ReLUs of modules 4 and 5 of five, and the release's layer after the first Linear or the logits."""
    import torchvision

    with torch.device("meta"):
        networks = {name: getattr(torchvision.models, name)() for name in ("vgg19_bn", "vgg19")}
    for name, last in (("code", "classifier.1"), ("paper", "classifier.6")):
        net = networks[RECIPES[name].network.removeprefix("torchvision:")]
        pools = [index for index, each in enumerate(net.features) if isinstance(each, nn.MaxPool2d)]
        assert list(RECIPES[name].lambdas) == [*(f"features.{pool - 1}" for pool in pools[3:]), last]
        assert all(isinstance(net.features[pool - 1], nn.ReLU) for pool in pools)
    assert isinstance(networks["vgg19_bn"].classifier[1], nn.ReLU)
    assert list(RECIPES["code"].lambdas.values()) == [30, 10, 10] and not RECIPES["code"].per_position
    assert list(RECIPES["paper"].lambdas.values()) == [30, 10, 5] and RECIPES["paper"].per_position
    assert [RECIPES[name].combination for name in ("code", "paper")] == ["code", "paper"]
