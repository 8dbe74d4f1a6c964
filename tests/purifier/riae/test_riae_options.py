"""What differs from the paper's network by choice: subsets, noise, padding; and images that are refused."""

from dataclasses import replace

import pytest
import torch

from impure.manifests.base.errors import InputError
from impure.purifier.riae.model import RIAE
from impure.purifier.riae.riae_config import RIAEConfig
from tests.purifier.conftest import SMALL
from tests.purifier.riae.test_model import Make, seeded


@pytest.mark.parametrize("decoder", ["copies", "cross"])
@pytest.mark.parametrize("subsets", [2, 3])
def test_other_numbers_of_subsets_hide_each_from_itself(subsets: int, decoder: str) -> None:
    torch.manual_seed(0)
    model = RIAE(RIAEConfig(**SMALL, mask="occlusion", subsets=subsets, decoder=decoder))  # type: ignore[arg-type]
    assert model.decoder_head_embed.in_features == (subsets - 1) * 16
    images = torch.rand(1, 3, 24, 24, requires_grad=True)
    randomness = model.draw_test(images, seeded())
    first = randomness.partition[0, 0]
    model.rebuild(images, randomness).unfold(2, 4, 4).unfold(3, 4, 4).flatten(2, 3)[
        :, :, first
    ].sum().backward()
    assert images.grad is not None
    seen = images.grad.unfold(2, 4, 4).unfold(3, 4, 4).flatten(2, 3).abs().sum((0, 1, 3, 4))
    others = torch.ones(36, dtype=torch.bool).index_fill(0, first, False)
    assert not seen[first].any() and seen[others].all()
    assert model.purify(torch.rand(1, 3, 10, 13)).shape == (1, 3, 10, 13)


def test_noise_steps_and_padding_are_the_configs(riae: Make) -> None:
    model = riae("both")
    model.config = replace(model.config, image_step=3, feature_step=999, padding="zeros")
    randomness = model.draw_test(torch.rand(2, 3, 8, 8), seeded())
    assert randomness.image_step.tolist() == [3, 3] and randomness.feature_step.tolist() == [999, 999]
    assert not model.pad(torch.ones(1, 3, 8, 5))[..., 5:].any()
    assert riae("both").pad(torch.ones(1, 3, 8, 5)).all()
    per_subset = model.draw_training(torch.rand(9, 3, 8, 8), seeded(), steps_per_subset=True)
    assert per_subset.feature_step.shape == (9, 4) and per_subset.image_step.shape == (9,)
    assert len(set(per_subset.feature_step[0].tolist())) > 1
    assert model(torch.rand(9, 3, 8, 8), per_subset).isfinite().all()


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.zeros(3, 8, 8), r"\(3, 8, 8\); for a single image give image\[None\]"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "torch.uint8. Divide 8-bit images by 255"),
        (torch.full((1, 3, 8, 8), 200.0), "these reach from 200 to 200. Divide 8-bit levels by 255"),
        (torch.full((1, 3, 8, 8), -1.0), "must lie in .*; these reach from -1 to -1"),
        (torch.zeros(1, 1, 8, 8), r"takes RGB images .* \(1, 1, 8, 8\)"),
    ],
)
def test_images_of_another_kind_are_refused(riae: Make, images: torch.Tensor, said: str) -> None:
    with pytest.raises(InputError, match=said):
        riae("both").purify(images)
