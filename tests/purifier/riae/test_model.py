import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from impure.manifests.base.errors import InputError
from impure.purifier.riae.blocks import Block, CrossBlock
from impure.purifier.riae.model import RIAE
from impure.purifier.riae.patches import patchify
from impure.purifier.riae.riae_config import PRESETS, RIAEConfig, preset
from tests.purifier.conftest import SMALL

Make = Callable[..., RIAE]
MASKS = ("occlusion", "image-noise", "feature-noise", "both")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def train_pass(model: RIAE, images: Tensor, seed: int = 0) -> Tensor:
    return model(images, model.draw_training(images, seeded(seed)))


def test_base_has_the_papers_size() -> None:
    with torch.device("meta"):
        count = {
            mask: sum(each.numel() for each in RIAE(preset("base", mask)).parameters()) for mask in MASKS
        }
    assert count["both"] == 115_789_402
    assert count["occlusion"] == count["both"] + 512  # the mask token
    assert count["image-noise"] == count["feature-noise"] == count["both"]
    assert _counted() == count["both"]


def _counted() -> int:
    """The sizes of ViT-B/16 and an 8-block decoder of 512, added up by hand."""

    def block(dim: int) -> int:
        norms, attention = 2 * 2 * dim, 3 * dim * dim + 3 * dim + dim * dim + dim
        return norms + attention + 8 * dim * dim + 5 * dim

    linear = [(768, 768)] + 5 * [(768, 768)] + [(768, 512), (3 * 768, 512), (512, 768)]
    norms, tokens, logits, convolution = 2 * (768 + 512 + 512), 768, 6, 3 * 3 * 9 + 3
    return (
        12 * block(768) + 8 * block(512) + sum(a * b + b for a, b in linear)
        + norms + tokens + logits + convolution
    )  # fmt: skip


@pytest.mark.parametrize("mask", MASKS)
def test_every_parameter_learns(riae: Make, mask: str) -> None:
    model = riae(mask)
    output = train_pass(model, torch.rand(2, 3, 16, 24))
    assert output.shape == (2, 3, 16, 24)
    output.abs().mean().backward()
    assert [name for name, each in model.named_parameters() if each.grad is None] == []


def _influence(model: RIAE, patch: int) -> torch.Tensor:
    """How much each patch (N,) moves the reconstruction of one patch, before the convolution."""
    images = torch.rand(1, 3, 16, 16, generator=seeded(5)).requires_grad_()
    rebuilt = patchify(model.rebuild(images, model.draw_test(images, seeded())), 4)
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


@pytest.fixture(scope="module")
def straightforward() -> ModuleType:
    """The benchmark's RIAE: one pass per copy, every token through every block, written for itself."""
    folder = str(Path(__file__).parents[3] / "benchmarks")
    sys.path.insert(0, folder)
    try:
        import straightforward as module
    finally:
        sys.path.remove(folder)
    return module


@pytest.mark.parametrize("depth", [1, 3])
def test_savings_change_neither_output_nor_gradients(straightforward: ModuleType, depth: int) -> None:
    """The whole network against an independent one: partition, windows, fusion, bridges, noise, head."""
    model = RIAE(RIAEConfig(**{**SMALL, "decoder_depth": depth, "fusion": (0, 1)}))  # type: ignore[arg-type]
    plain = straightforward.Straightforward(
        patch=4, grid=6, width=16, depth=3, heads=2, narrow=8, decoder_depth=depth, decoder_heads=2,
        fused=(0, 1),
    )  # fmt: skip
    with torch.no_grad():
        for weight in model.parameters():  # no weight at a value at which it could be left out
            weight += 0.1 * torch.randn(weight.shape, generator=seeded(weight.numel()))
    plain.load_state_dict(model.state_dict())
    images = torch.rand(3, 3, 16, 24, generator=seeded())
    randomness = model.draw_training(images, seeded(1))
    outputs = [network(images, randomness) for network in (model, plain)]
    assert (outputs[0] - outputs[1]).abs().max() < 1e-5
    for output in outputs:
        output.square().mean().backward()
    theirs = dict(plain.named_parameters())
    for name, weight in model.named_parameters():
        assert weight.grad is not None and (weight.grad - theirs[name].grad).abs().max() < 1e-5, name


def test_cross_decoder_asks_the_visible_tokens_alone(riae: Make) -> None:
    """One block, one head, by hand: softmax over the three other subsets and the class token."""
    torch.manual_seed(0)
    config = replace(RIAEConfig(**SMALL), decoder="cross", decoder_depth=1, decoder_heads=1)  # type: ignore[arg-type]
    decoder = RIAE(config).decoder_blocks
    visible, first, masked = torch.randn(1, 4, 3, 8), torch.randn(1, 4, 8), torch.randn(1, 4, 3, 8)
    block = decoder[0]
    assert isinstance(block, CrossBlock)
    with torch.no_grad():
        rebuilt = decoder(visible, first, masked)
        for subset in range(4):
            rest = [visible[0, other] for other in range(4) if other != subset]
            source = block.norm_context(torch.cat([first[0, subset : subset + 1], *rest]))
            key, value = block.attn.kv(source).chunk(2, -1)
            weights = (block.attn.q(block.norm1(masked[0, subset])) @ key.T / 8**0.5).softmax(-1)
            tokens = masked[0, subset] + block.attn.proj(weights @ value)
            wanted = tokens + block.mlp(block.norm2(tokens))
            assert torch.allclose(rebuilt[0, subset], wanted, atol=1e-6)


@pytest.mark.parametrize("mask", MASKS)
def test_cross_decoder_learns_and_keeps_the_mask(mask: str) -> None:
    model = RIAE(replace(RIAEConfig(**SMALL), mask=mask, decoder="cross"))  # type: ignore[arg-type]
    train_pass(model, torch.rand(2, 3, 16, 16)).abs().mean().backward()
    assert [name for name, each in model.named_parameters() if each.grad is None] == []
    if mask == "occlusion":
        assert (_influence(model, 5)[[5, 7, 13, 15]] == 0).all()


def test_a_pass_is_a_function_of_images_and_draws(riae: Make) -> None:
    model, images = riae("both"), torch.rand(2, 3, 16, 16)
    randomness = model.draw_training(images, seeded())
    with torch.no_grad():
        assert torch.equal(model(images, randomness), model(images, randomness))
        louder = randomness._replace(feature_noise=2 * randomness.feature_noise)
        assert not torch.equal(model(images, randomness), model(images, louder))


def test_fusion_weighs_the_chosen_levels(riae: Make) -> None:
    model = riae("occlusion")
    tokens = torch.randn(1, 4, 4, 16)
    with torch.no_grad():
        model.proj_weights.copy_(torch.tensor([-1e9, 0.0]).view(2, 1, 1, 1))  # all weight on the last block
        features = torch.cat([model.cls_token.expand(1, 4, 1, -1), tokens], 2).flatten(0, 1)
        for block in model.blocks:
            features = block(features)
        assert torch.allclose(model._encoder(tokens)[0], model.norm(features), atol=1e-6)


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


@pytest.mark.parametrize(("bias", "value"), [(9.0, 1.0), (-9.0, 0.0)])
@torch.no_grad()
def test_purified_images_are_clamped(riae: Make, bias: float, value: float) -> None:
    """A network that rebuilds what is brighter than white, or darker than black."""
    model = riae("both")
    torch.nn.init.constant_(model.decoder_rb1.bias, bias)  # type: ignore[arg-type]
    images = torch.rand(2, 3, 16, 16)
    randomness = model.draw_test(images, seeded())
    for purified in (model.purify(images, samples=2), model.purify_once(images, randomness)):
        assert (purified == value).all()


def test_seed_fixes_the_noise(riae: Make) -> None:
    model, images = riae("both"), torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        one, again, other = (model.purify(images, seed=seed) for seed in (1, 1, 2))
        generator = seeded(1)
        samples = [model.purify(images, seed=generator) for _ in range(2)]
        mean = model.purify(images, seed=1, samples=2)
    assert torch.equal(one, again) and torch.equal(one, samples[0]) and not torch.equal(one, other)
    assert torch.allclose(mean, (samples[0] + samples[1]) / 2)


def test_training_windows_differ_and_test_window_is_centred(riae: Make) -> None:
    model, images = riae("both"), torch.rand(64, 3, 8, 16)
    corners = model.draw_training(images, seeded()).corner
    assert corners.min(0).values.tolist() == [0, 0] and corners.max(0).values.tolist() == [4, 2]
    randomness = model.draw_test(images, seeded())
    assert randomness.corner[0].tolist() == [2, 1]
    assert randomness.image_step[0] == 400 and randomness.feature_step[0] == 600


def test_training_noise_levels(riae: Make) -> None:
    randomness = riae("both").draw_training(torch.rand(2000, 3, 8, 8), seeded())
    assert 200 <= randomness.image_step.min() < 205 and 595 < randomness.image_step.max() < 600
    assert 200 <= randomness.feature_step.min() < 205 and 990 < randomness.feature_step.max() < 1000


@pytest.mark.parametrize(
    ("mask", "image", "feature"),
    [("occlusion", 0, 0), ("image-noise", 1, 0), ("feature-noise", 0, 1), ("both", 1, 1)],
)
def test_only_the_noise_that_is_used_is_drawn(riae: Make, mask: str, image: int, feature: int) -> None:
    images = torch.rand(2, 3, 16, 8, dtype=torch.float64)
    randomness = riae(mask).draw_training(images, seeded())
    assert randomness.image_noise.shape == ((2, 4, 2, 48) if image else (0,))
    assert randomness.feature_noise.shape == ((2, 4, 2, 8) if feature else (0,))
    assert randomness.image_noise.dtype == torch.float64


def test_diffusion_follows_ddpm(riae: Make) -> None:
    model, values = riae("both"), torch.ones(1, 100_000)
    noisy = model._diffuse(values, torch.tensor([400]), torch.randn(values.shape, generator=seeded()))
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
        train_pass(riae("both"), torch.rand(1, 3, 12, 16))
    with pytest.raises(InputError, match="samples is 0"):
        riae("both").purify(torch.rand(1, 3, 8, 8), samples=0)
    with pytest.raises(InputError, match="'tiles' is unknown; choose from uniform, random"):
        riae("both").purify(torch.rand(1, 3, 8, 8), partition="tiles")  # type: ignore[arg-type]
    assert set(PRESETS) == {"base", "small", "tiny"} and RIAEConfig().image_step == 400
