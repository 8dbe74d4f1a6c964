from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from impure.manifests.errors import InputError
from impure.purifier import riae as module
from impure.purifier.blocks import Block
from impure.purifier.patches import patchify
from impure.purifier.riae import PRESETS, RIAE, RIAEConfig, preset

Make = Callable[[str], RIAE]
MASKS = ("occlusion", "image-noise", "feature-noise", "both")


def test_base_has_the_papers_size() -> None:
    with torch.device("meta"):
        count = {
            mask: sum(each.numel() for each in RIAE(preset("base", mask)).parameters()) for mask in MASKS
        }
    assert count["both"] == 115_789_402
    assert count["occlusion"] == count["both"] + 512  # the mask token
    assert count["image-noise"] == count["feature-noise"] == count["both"]


@pytest.mark.parametrize("mask", MASKS)
def test_every_parameter_learns(riae: Make, mask: str) -> None:
    model = riae(mask)
    output = model(torch.rand(2, 3, 16, 24), torch.Generator().manual_seed(0))
    assert output.shape == (2, 3, 16, 24)
    output.abs().mean().backward()
    assert [name for name, each in model.named_parameters() if each.grad is None] == []


def _influence(model: RIAE, patch: int) -> torch.Tensor:
    """How much each patch (N,) moves the reconstruction of one patch, before the convolution."""
    images = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(5)).requires_grad_()
    plan = model._test_plan(images, torch.Generator().manual_seed(0), "uniform")
    rebuilt = patchify(model.rebuild(images, plan), 4)
    (gradient,) = torch.autograd.grad(rebuilt[0, patch].sum(), images)
    return patchify(gradient, 4)[0].abs().sum(1)


def test_occlusion_hides_a_whole_subset_from_itself(riae: Make) -> None:
    influence = _influence(riae("occlusion"), 5)
    own = torch.tensor([5, 7, 13, 15])  # the subset of row 1, column 1
    assert (influence[own] == 0).all()
    assert (influence[[0, 1, 2, 3, 4, 6]] > 0).all()


@pytest.mark.parametrize("mask", ["image-noise", "feature-noise", "both"])
def test_noise_modes_see_their_own_subset_through_the_noise_alone(riae: Make, mask: str) -> None:
    model = riae(mask)
    assert _influence(model, 5)[5] > 0
    model.signal.zero_()  # nothing of the signal passes the noise
    influence = _influence(model, 5)
    assert (influence[[5, 7, 13, 15]] == 0).all() and influence[6] > 0


def test_last_block_saving_changes_nothing() -> None:
    block = Block(16, 4)
    tokens = torch.randn(3, 10, 16)
    assert torch.allclose(block(tokens, keep=4), block(tokens)[:, :4], atol=1e-6)


def test_decoder_saving_changes_nothing(riae: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = riae("both"), torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        saved = model.purify(images, seed=1)
        whole = Block.forward
        monkeypatch.setattr(Block, "forward", lambda self, tokens, keep=None: whole(self, tokens)[:, :keep])
        assert (model.purify(images, seed=1) - saved).abs().max() < 1e-5


def test_fusion_weighs_the_chosen_levels(riae: Make) -> None:
    model = riae("occlusion")
    tokens = torch.randn(1, 4, 4, 16)
    with torch.no_grad():
        model.fusion_logits.copy_(torch.tensor([-1e9, 0.0]))  # all weight on the last block
        features = torch.cat([model.class_token.expand(1, 4, 1, -1), tokens], 2).flatten(0, 1)
        for block in model.encoder:
            features = block(features)
        assert torch.allclose(model._encoder(tokens)[0], model.encoder_norm(features), atol=1e-6)


def test_subsets_do_not_meet_in_the_encoder(riae: Make) -> None:
    model, tokens = riae("both"), torch.randn(1, 4, 4, 16)
    other = tokens.clone()
    other[:, 2] += 1
    with torch.no_grad():
        same = (model._encoder(tokens) == model._encoder(other)).flatten(2).all(2)[0]
    assert same.tolist() == [True, True, False, True]


@pytest.mark.parametrize("size", [(16, 16), (5, 7), (1, 30), (40, 70)])
def test_purify_takes_any_size(riae: Make, size: tuple[int, int]) -> None:
    with torch.no_grad():
        purified = riae("both").purify(torch.rand(2, 3, *size), seed=1)
    assert purified.shape == (2, 3, *size)
    assert purified.min() >= 0 and purified.max() <= 1


def test_seed_fixes_the_noise(riae: Make) -> None:
    model, images = riae("both"), torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        one, again, other = (model.purify(images, seed=seed) for seed in (1, 1, 2))
        generator = torch.Generator().manual_seed(1)
        draws = [model.purify(images, seed=generator) for _ in range(2)]
        mean = model.purify(images, seed=1, draws=2)
    assert torch.equal(one, again) and torch.equal(one, draws[0]) and not torch.equal(one, other)
    assert torch.allclose(mean, (draws[0] + draws[1]) / 2)


def test_training_windows_differ_and_test_window_is_centred(riae: Make) -> None:
    model, images = riae("both"), torch.rand(64, 3, 8, 16)
    corners = model._training_plan(images, torch.Generator().manual_seed(0)).corner
    assert corners.min(0).values.tolist() == [0, 0] and corners.max(0).values.tolist() == [4, 2]
    plan = model._test_plan(images, torch.Generator(), "uniform")
    assert plan.corner[0].tolist() == [2, 1]
    assert plan.image_step[0] == 400 and plan.feature_step[0] == 600


def test_training_noise_levels(riae: Make) -> None:
    plan = riae("both")._training_plan(torch.rand(2000, 3, 8, 8), torch.Generator().manual_seed(0))
    assert 200 <= plan.image_step.min() < 205 and 595 < plan.image_step.max() < 600
    assert 200 <= plan.feature_step.min() < 205 and 990 < plan.feature_step.max() < 1000


def test_diffusion_follows_ddpm(riae: Make) -> None:
    model, values = riae("both"), torch.ones(1, 100_000)
    noisy = model._diffuse(values, torch.tensor([400]), torch.Generator().manual_seed(0))
    signal = torch.prod(1 - torch.linspace(1e-4, 0.02, 1000)[:401])
    assert abs(noisy.mean() - signal.sqrt()) < 0.01
    assert abs(noisy.var() - (1 - signal)) < 0.01


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"encoder_heads": 5}, "encoder_heads"),
        ({"decoder_dim": 10}, "decoder_dim 10"),
        ({"fusion": (11,)}, "fusion"),
        ({"mask": "snow"}, "'snow'"),
        ({"patch": 0}, "patch is 0"),
        ({"position_period": 1.0}, "position_period is 1.0"),
    ],
)
def test_config_names_the_bad_value(values: dict[str, object], word: str) -> None:
    with pytest.raises(InputError, match=word):
        replace(RIAEConfig(), **values)


def test_wrong_use_is_refused(riae: Make) -> None:
    with pytest.raises(InputError, match="choose from base, small, tiny"):
        preset("huge")
    with pytest.raises(InputError, match="12x16 pixels"):
        riae("both")(torch.rand(1, 3, 12, 16), torch.Generator())
    with pytest.raises(InputError, match="draws 0"):
        riae("both").purify(torch.rand(1, 3, 8, 8), draws=0)
    assert set(PRESETS) == {"base", "small", "tiny"} and module.IMAGE_STEP == 400
