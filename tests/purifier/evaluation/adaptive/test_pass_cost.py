"""Operations of a pass, against sums by hand."""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from impure.purifier.evaluation.adaptive.adaptive_config import Knowledge
from impure.purifier.evaluation.adaptive.pass_cost import Costs, PassCost, flop_of, seconds_of
from tests.purifier.evaluation.adaptive.test_attack_cell import cell

LABELS = torch.tensor([0, 1])


class Attention(nn.Module):
    """Pixels attend to pixels."""

    def forward(self, images: Tensor) -> Tensor:
        tokens = images.flatten(2).transpose(1, 2)  # B, 16, 3
        return scaled_dot_product_attention(tokens, tokens, tokens).mean(1)


def test_flop_of_convolution_linear_layer_and_attention() -> None:
    images = torch.rand(2, 3, 4, 4)
    convolution = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.Flatten(), nn.Linear(80, 2))
    convolution.requires_grad_(False)
    forward = 2 * (5 * 3 * 9 * 16 + 80 * 2)
    assert flop_of(convolution, images, LABELS) == PassCost(forward=forward, backward=forward)
    attention = flop_of(Attention(), images, LABELS)
    assert attention.forward == 2 * (2 * 16 * 16 * 3) and attention.backward == 2 * attention.forward


def test_seconds_are_measured() -> None:
    cost = seconds_of(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), torch.rand(2, 3, 4, 4), LABELS)
    assert cost.forward > 0 and cost.backward >= 0


def test_who_knows_less_pays_for_less() -> None:
    costs = Costs(target=PassCost(forward=1, backward=10), defended=PassCost(forward=100, backward=1000))

    def of(knowledge: Knowledge) -> float:
        return costs.of(cell(knowledge), 5, 4)

    assert (of("blind"), of("straight-through"), of("full")) == (45, 540, 4500)
