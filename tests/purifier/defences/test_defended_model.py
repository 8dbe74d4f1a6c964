import copy
import pickle
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from impure.manifests.base.errors import InputError
from impure.purifier.defences.defended_model import DefendedModel
from impure.purifier.defences.riae_defence import RIAEDefence
from impure.purifier.defences.static.jpeg import Jpeg
from impure.purifier.defences.static.random_resize import RandomResize
from impure.purifier.riae.model import RIAE

Make = Callable[[str], RIAE]


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def target() -> nn.Module:
    """With batch statistics, which an attack must not move."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.Tanh(), nn.Flatten(), nn.Linear(6 * 49, 4)
    )


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 16, 16) * 0.8 + 0.1


class Double(nn.Module):
    """Not a defence, and random."""

    def forward(self, images: Tensor) -> Tensor:
        return images + torch.rand_like(images) / 100


def test_equals_purify_and_classify(riae: Make, target: nn.Module, images: Tensor) -> None:
    model = riae("both")
    averaged = DefendedModel(RIAEDefence(model), target, samples=3, seed=5)(images[:1])
    purified = model.purify(images[:1], seed=5, samples=3)
    assert torch.allclose(averaged, target(purified), atol=1e-6)


def test_new_noise_follows_torchs_generator(riae: Make, target: nn.Module, images: Tensor) -> None:
    defended = DefendedModel(riae("both"), target)
    torch.manual_seed(1)
    one, two = defended(images), defended(images)
    torch.manual_seed(1)
    assert torch.equal(one, defended(images)) and not torch.equal(one, two)
    alone = DefendedModel(Double(), target)
    assert not torch.equal(alone(images), alone(images))


def test_fixed_noise_makes_a_function_of_each_image(riae: Make, target: nn.Module, images: Tensor) -> None:
    defended = DefendedModel(riae("both"), target, seed=3, samples=2)
    whole = defended(images)
    state = torch.get_rng_state()
    assert torch.equal(whole, defended(images)) and torch.equal(state, torch.get_rng_state())
    assert torch.allclose(whole[[2, 0]], defended(images[[2, 0]]), atol=1e-5)
    assert not torch.equal(whole, DefendedModel(riae("both"), target, seed=4, samples=2)(images))


def test_gradient_equals_finite_differences(riae: Make, target: nn.Module, images: Tensor) -> None:
    defended = DefendedModel(riae("both"), target, seed=3, samples=2).double()
    images = images[:2].double().requires_grad_()
    direction = torch.randn_like(images)
    (gradient,) = torch.autograd.grad(defended(images)[:, 1].sum(), images)
    step = 1e-6
    with torch.no_grad():
        ends = [defended(images + sign * step * direction)[:, 1].sum() for sign in (1, -1)]
    slope = (gradient * direction).sum()
    assert abs(slope) > 1e-6
    assert torch.allclose((ends[0] - ends[1]) / (2 * step), slope, rtol=1e-5)


def test_votes(target: nn.Module, images: Tensor) -> None:
    class Turns(nn.Module):
        """Three images in turn."""

        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def forward(self, images: Tensor) -> Tensor:
            self.calls += 1
            return torch.full_like(images, self.calls)

    class Fixed(nn.Module):
        """Class 0 and class 1 surely, class 1 barely; then the same without the last."""

        def forward(self, images: Tensor) -> Tensor:
            logits = torch.tensor([[5.0, 0, 0], [0, 3.0, 0], [0, 0.1, 0]])
            return logits[images[:, 0, 0, 0].long() - 1]

    votes = DefendedModel(Turns(), Fixed(), samples=3, combine="vote")(images)
    assert votes.shape == (3, 3) and votes.floor().tolist() == [[1, 2, 0]] * 3
    tied = DefendedModel(Turns(), Fixed(), samples=2, combine="vote")(images)
    assert tied.floor().tolist() == [[1, 1, 0]] * 3 and tied.argmax(1).tolist() == [0] * 3
    images.requires_grad_()
    assert not DefendedModel(nn.Identity(), target, combine="vote")(images).requires_grad


def test_images_in_different_places_have_no_mean(images: Tensor) -> None:
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(InputError, match="RandomResize's samples lie in different places"):
        DefendedModel(RandomResize(), pooled, samples=2)
    assert DefendedModel(RandomResize(), pooled, samples=2, combine="vote")(images).shape == (3, 3)


def test_nan_surfaces(images: Tensor) -> None:
    class Broken(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.mean((2, 3)) * torch.nan

    for combine in ("average", "vote"):
        assert DefendedModel(nn.Identity(), Broken(), combine=combine)(images).isnan().all()  # type: ignore[arg-type]


def test_is_an_ordinary_module(riae: Make, target: nn.Module, images: Tensor) -> None:
    defended = DefendedModel(riae("both"), target, seed=3)
    before, logits = copy.deepcopy(defended.state_dict()), defended(images)
    assert defended.train().training and not any(part.training for part in defended.children())
    assert not target.training and torch.equal(defended(images), logits)
    assert all(torch.equal(value, before[name]) for name, value in defended.state_dict().items())
    assert not defended.eval().training
    for copied in (copy.deepcopy(defended), defended.to("cpu").requires_grad_(False)):
        copied.load_state_dict(before)
        assert torch.allclose(copied(images), logits, atol=1e-5)


def test_pickles(riae: Make, images: Tensor) -> None:
    defended = DefendedModel(riae("both"), nn.Sequential(nn.Flatten(), nn.LazyLinear(4)), seed=3)
    logits = defended(images)
    assert torch.equal(pickle.loads(pickle.dumps(defended))(images), logits)


def test_other_types_and_layouts(riae: Make, target: nn.Module, images: Tensor) -> None:
    defended = DefendedModel(riae("both"), target, seed=3)
    logits = defended(images)
    last = images.to(memory_format=torch.channels_last)
    assert torch.allclose(defended(last), logits, atol=1e-5)
    precise = images.double().requires_grad_()
    assert torch.allclose(defended(precise), logits, atol=1e-6)
    assert torch.autograd.grad(defended(precise).sum(), precise)[0].dtype == torch.float64
    mixed = DefendedModel(riae("both").double(), target, seed=3)(images)
    assert mixed.dtype == torch.float32 and mixed.isfinite().all()
    assert DefendedModel(Jpeg(), target)(images.double()).dtype == torch.float32


def test_wrong_arguments(riae: Make, target: nn.Module) -> None:
    with pytest.raises(InputError, match="samples is 0"):
        DefendedModel(riae("both"), target, samples=0)
    with pytest.raises(InputError, match="'mean'; choose from average, vote"):
        DefendedModel(riae("both"), target, combine="mean")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Double is no Defence"):
        DefendedModel(Double(), target, seed=1)
