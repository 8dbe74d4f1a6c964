"""Grad-CAM by captum against the formula, and how alike maps are."""

import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from impure.manifests.base.errors import InputError
from impure.manifests.collection.collection import CommittedShard
from impure.purifier.defences.base.defence import Defence
from impure.purifier.evaluation.evaluate_config import EvaluateConfig
from impure.purifier.evaluation.figures.grad_cam import (
    choose_layer,
    correlation,
    enlarged,
    maps_of,
    spatial_layers,
)
from impure.purifier.evaluation.figures.grad_cam_plot import grad_cam_plot, likeness_table, overlaid
from impure.purifier.evaluation.figures.map_likeness import GradCam, measure_grad_cam

CPU = torch.device("cpu")


def network() -> nn.Sequential:
    """Four channels of 8 x 8 places, their mean, two classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2))
        toy = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).requires_grad_(
            False
        )
    for layer in (body[0], toy[3]):
        layer.weight.abs_()  # otherwise some maps are zero everywhere
    return toy


class Toy(nn.Module):
    """As a target is: the network inside."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits


class Undo(Defence):
    """Undoes the toy attack."""

    def defend(self, images: Tensor) -> Tensor:
        return 1 - images


def measured(shards: list[CommittedShard], layer: str | None = None) -> GradCam:
    return measure_grad_cam(
        shards,
        {"toy": Toy()},
        Undo(),
        EvaluateConfig(batch_size=4),
        device=CPU,
        layer=layer,  # type: ignore[dict-item]
    )


def test_maps_are_those_of_the_formula() -> None:
    """Behind a mean and a linear layer, the gradient at every place is weight / places."""
    toy, images, classes = Toy(), torch.rand(3, 3, 16, 16), torch.tensor([0, 1, 1])
    features = toy.network[0](images)
    weights = toy.network[3].weight[classes] / 64
    wanted = torch.einsum("bc,bchw->bhw", weights, features).relu()
    assert torch.allclose(maps_of(toy, toy.network[0], images, classes), wanted, atol=1e-7)
    assert not images.requires_grad and all(each.grad is None for each in toy.parameters())


def test_the_last_layer_with_places_is_found() -> None:
    images = torch.rand(1, 3, 16, 16)
    assert spatial_layers(network(), images) == ["0.0", "0.1", "0.2", "0"]  # the mean has one place
    assert choose_layer(network(), images) == "0" and choose_layer(network(), images, "0.1") == "0.1"
    assert not network()[0]._forward_hooks
    with pytest.raises(InputError, match="no layer that returns feature maps"):
        choose_layer(nn.Sequential(nn.Flatten(), nn.Linear(768, 2)), images)
    for wrong in ("layer4", "3"):  # the other returns no maps
        with pytest.raises(InputError, match=f"--layer {wrong}: no layer .* the last are 0.0, 0.1, 0.2, 0"):
            choose_layer(network(), images, wrong)


def test_a_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    toy = Toy()
    with pytest.raises(InputError, match=r"fig6 needs captum.*pip install 'impure\[figures\]'"):
        maps_of(toy, toy.network[0], torch.rand(1, 3, 16, 16), torch.tensor([0]))


def test_correlation_is_pearsons() -> None:
    first, second = torch.rand(2, 5, 4, 3)
    first[4] = 0.5  # flat
    wanted = [np.corrcoef(a.flatten(), b.flatten())[0, 1] for a, b in zip(first[:4], second[:4], strict=True)]
    assert correlation(first, second).tolist() == pytest.approx([*wanted, 0])


def test_maps_are_enlarged_to_their_own_range() -> None:
    large = enlarged(torch.stack([torch.arange(4.0).view(2, 2), torch.zeros(2, 2)]), 6, 8)
    assert large.shape == (2, 6, 8) and large[0].max() == 1 and large[0].min() == 0 and not large[1].any()


def test_what_is_purified_looks_like_the_clean_image(shards: list[CommittedShard]) -> None:
    found = measured(shards)
    forms = [(row.attack, row.form, row.n) for row in found.rows]
    assert forms[:2] == [("fgsm", "adversarial", 6), ("fgsm", "purified", 6)] and len(forms) == 4
    by_form = {row.form: row.mean for row in found.rows}
    assert by_form["purified"] == pytest.approx(1, abs=1e-4) and by_form["adversarial"] < 0.9
    assert found.conditions["layer"] == ["toy: 0"]
    assert measured(shards, "0.0").conditions["layer"] == ["toy: 0.0"]


def test_plot_and_table(shards: list[CommittedShard]) -> None:
    found = measured(shards)
    drawn = grad_cam_plot(found.shown, ("dark", "bright"))
    assert len(drawn.axes) == 2 * 6
    assert [axes.get_title() for axes in drawn.axes[:6]] == [
        "clean", "adversarial", "purified", "clean: map", "adversarial: map", "purified: map",
    ]  # fmt: skip
    assert {axes.get_xlabel() for axes in drawn.axes[:3]} <= {"dark", "bright"}
    assert likeness_table(found.rows).count("purified") == 2


def test_a_map_lies_over_a_grey_image() -> None:
    image = np.zeros((1, 2, 3), np.uint8)
    image[0, :, 0] = 255  # red, which maps have too
    mixed = overlaid(image, np.array([[0, 1]], np.float32))
    colours = 255 * np.array([[[0.19, 0.07, 0.23], [0.48, 0.016, 0.011]]])  # both ends of turbo
    assert np.allclose(mixed, (85 + colours) / 2, atol=2)
