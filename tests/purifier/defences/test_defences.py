"""The contract that every defence keeps, a row each, and what is particular to some."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import pytest
import torch
from torch import Tensor

from impure.manifests.base.errors import InputError
from impure.purifier.defences.base.defence import Defence
from impure.purifier.defences.defence_registry import DEFENCES, build_defences
from impure.purifier.defences.riae_defence import RIAEDefence
from impure.purifier.riae.model import RIAE
from tests.purifier.defences.small_defences import SMALL

Make = Callable[[str], RIAE]


class Contract(NamedTuple):
    """What a defence states.

    Attributes:
        gradient: As its class has it.
        random: Whether two passes differ.
        identity: Whether a straight-through gradient is the identity's as a whole, and not in one step alone.
    """

    gradient: Literal["exact", "straight-through", "none"]
    random: bool = False
    identity: bool = True


CONTRACTS = {
    "none": Contract(gradient="exact"),
    "gaussian-noise": Contract(gradient="exact", random=True),
    "bit-depth": Contract(gradient="straight-through"),
    "jpeg": Contract(gradient="straight-through"),
    "random": Contract(gradient="exact", random=True),
    "random-impure": Contract(gradient="exact", random=True),
    "pixel-deflection": Contract(gradient="straight-through", random=True, identity=False),
    "pixel-deflection-impure": Contract(gradient="straight-through", random=True, identity=False),
    "wavelet-sr": Contract(gradient="straight-through", identity=False),
    "comdefend": Contract(gradient="straight-through", identity=False),
    "magnet": Contract(gradient="exact"),
    "hgd": Contract(gradient="exact"),
    "recon": Contract(gradient="exact", random=True),
    "dir": Contract(gradient="exact"),
    "dir-joint": Contract(gradient="exact"),
    "adversarial-training": Contract(gradient="exact"),
    "disco": Contract(gradient="exact"),
    "nrp": Contract(gradient="exact"),
    "riae": Contract(gradient="exact", random=True),
    "diffpure": Contract(gradient="exact", random=True),
    "consistency": Contract(gradient="exact", random=True),
}


def test_every_defence_has_a_contract() -> None:
    assert CONTRACTS.keys() == DEFENCES.keys(), "a defence needs a line in DEFENCES and a row in CONTRACTS"


@pytest.fixture(params=DEFENCES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def defence(name: str) -> Defence:
    trained = {name: SMALL[name]()} if name in SMALL else {}
    return build_defences([name], trained)[name].eval()


def pictures(count: int = 3, dtype: torch.dtype = torch.float32) -> Tensor:
    """Sides that are no multiples of anything; black and white among the colours."""
    images = torch.rand(count, 3, 17, 22, generator=torch.Generator().manual_seed(0), dtype=dtype)
    images[:, :, :4, :5] = 0
    images[:, :, 9:, 9:] = 1
    return images


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.no_grad()
def test_shape_type_and_range_are_kept(defence: Defence, dtype: torch.dtype) -> None:
    images = pictures(dtype=dtype)
    defended = defence.to(dtype)(images)
    assert defended.dtype == dtype and defended.device == images.device
    assert defended.shape == images.shape or not defence.keeps_size
    assert defended.min() >= 0 and defended.max() <= 1
    assert torch.equal(images, pictures(dtype=dtype))  # the caller's are left as they are


@torch.no_grad()
def test_the_seed_decides(name: str, defence: Defence) -> None:
    images, random = pictures(), CONTRACTS[name].random
    assert defence.is_random == random

    def after(seed: int, alike: bool) -> Tensor:
        defence.reseed(seed, alike=alike)
        return defence(images)

    for alike in (False, True):
        first = after(3, alike)
        assert torch.equal(defence(images), first) != random  # the noise goes on
        assert torch.equal(after(3, alike), first)
        assert torch.equal(after(4, alike), first) != random


@torch.no_grad()
def test_with_alike_noise_an_image_is_independent_of_its_batch(defence: Defence) -> None:
    defence, images = defence.double(), pictures(dtype=torch.float64)
    defence.reseed(5, alike=True)
    together = defence(images)
    for rows in ([2, 0], [1]):
        defence.reseed(5, alike=True)
        assert torch.allclose(defence(images[rows]), together[rows], atol=1e-12)


def test_the_gradient_is_what_is_stated(name: str, defence: Defence) -> None:
    assert defence.gradient == CONTRACTS[name].gradient and defence.source
    defence, images = defence.double(), pictures(2, torch.float64).clamp(0.2, 0.8).requires_grad_()
    size = defence(images).shape
    weight = torch.randn(size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def value(images: Tensor) -> Tensor:
        defence.reseed(6, alike=True)
        return (defence(images) * weight).sum()

    if CONTRACTS[name].gradient == "none":
        assert not value(images).requires_grad
        return
    (gradient,) = torch.autograd.grad(value(images), images)
    if CONTRACTS[name].gradient == "straight-through":
        assert gradient.isfinite().all() and gradient.any()
        assert torch.equal(gradient, weight) or not CONTRACTS[name].identity
        return
    direction, step = torch.randn_like(images), 1e-6
    with torch.no_grad():
        slope = (value(images + step * direction) - value(images - step * direction)) / (2 * step)
    assert slope.abs() > 1e-6 and torch.allclose((gradient * direction).sum(), slope, rtol=1e-5)


def test_a_planted_adversarial_example_is_found_through_it(defence: Defence) -> None:
    """A linear classifier is fooled by a change along its weights; the attack is told gradients alone."""
    if defence.gradient == "none":
        pytest.skip("has no gradient to follow")
    defence, clean, eps = defence.double(), pictures(1, torch.float64).clamp(0.2, 0.8), 16 / 255

    def score(images: Tensor) -> Tensor:
        defence.reseed(7, alike=True)
        defended = defence(images)
        return (defended * torch.linspace(-1, 1, defended.shape[3])).sum()  # brighter on the right

    ramp = torch.linspace(-1, 1, clean.shape[3]).expand_as(clean)
    with torch.no_grad():
        before = score(clean)
        gain = score(clean + eps * ramp.sign()) - before
    assert gain.abs() > 1e-6
    images = clean.clone().requires_grad_()
    for _ in range(4):
        (gradient,) = torch.autograd.grad(score(images) * gain.sign(), images)
        moved = images.detach() + eps / 2 * gradient.sign()
        images = moved.clamp(clean - eps, clean + eps).clamp(0, 1).requires_grad_()
    boundary = before + gain / 2
    assert (score(images) - boundary) * gain.sign() > 0 > (before - boundary) * gain.sign()


@pytest.mark.parametrize(
    "side", [224, pytest.param(240, marks=pytest.mark.slow), pytest.param(260, marks=pytest.mark.slow), 299]
)
@torch.no_grad()
def test_photographs_of_every_size(defence: Defence, side: int) -> None:
    images = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(2))
    defended = defence(images)
    assert defended.shape == images.shape or not defence.keeps_size
    assert 0 <= defended.min() < defended.max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (9, 2), (16, 16)])
@torch.no_grad()
def test_constant_images_and_single_pixels(defence: Defence, size: tuple[int, int]) -> None:
    for level in (0.0, 0.3, 1.0):
        defended = defence(torch.full((2, 3, *size), level))
        assert 0 <= defended.min() and defended.max() <= 1


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_is_refused(defence: Defence, value: float) -> None:
    images = pictures()
    images[1, 2, 3, 4] = value
    with pytest.raises(InputError, match="^a defence takes images in .* NaN or infinite values$"):
        defence(images)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(3, 16, 16), r"must be \(N, C, H, W\)"),
        (torch.rand(2, 1, 16, 16), "takes RGB images"),
        (torch.zeros(2, 3, 16, 16, dtype=torch.uint8), "must be floating point"),
    ],
)
def test_other_images_are_refused(defence: Defence, images: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        defence(images)


def test_riae_goes_on_drawing_until_reseeded(riae: Make) -> None:
    defence, images = RIAEDefence(riae("both"), seed=4), torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        one, two = defence(images), defence(images)
        defence.reseed(4)
        assert torch.equal(one, defence(images)) and not torch.equal(one, two)


def test_alike_draws_make_an_image_independent_of_its_row(riae: Make) -> None:
    for mask, partition in (("both", "uniform"), ("occlusion", "random")):
        model = riae(mask).double()
        defence, images = RIAEDefence(model, partition=partition), torch.rand(3, 3, 18, 21).double()  # type: ignore[arg-type]
        with torch.no_grad():
            defence.reseed(4, alike=True)
            together = defence(images)
            assert not torch.equal(together, defence(images))
            defence.reseed(4, alike=True)
            assert torch.allclose(together[[2, 0]], defence(images[[2, 0]]), atol=1e-12)
            defence.reseed(4)
            first = model.purify(images[:1], seed=4, partition=partition)  # type: ignore[arg-type]
        assert torch.allclose(together[:1], first, atol=1e-12)


def test_riae_is_random_by_its_noise_or_its_partition(riae: Make) -> None:
    assert [RIAEDefence(riae(mask)).is_random for mask in ("both", "occlusion")] == [True, False]
    assert RIAEDefence(riae("occlusion"), partition="random").is_random


def test_options_reach_the_purifier(riae: Make) -> None:
    model, images = riae("both"), torch.rand(2, 3, 16, 16)
    built = build_defences(["none", "riae"], {"riae": RIAEDefence(model, partition="random")})
    assert list(built) == ["none", "riae"]
    with torch.no_grad():
        wanted = model.purify(images, seed=0, partition="random")
        assert torch.equal(built["riae"](images), wanted)


def test_wrong_options(riae: Make) -> None:
    with pytest.raises(InputError, match=f"choose from {', '.join(DEFENCES)}"):
        build_defences(["magic"])
    with pytest.raises(InputError, match="needs a trained network"):
        build_defences(["riae"])
    with pytest.raises(InputError, match="'mixed' is unknown; choose from uniform, random"):
        RIAEDefence(riae("both"), partition="mixed")  # type: ignore[arg-type]
