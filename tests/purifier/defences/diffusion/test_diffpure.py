"""DiffPure against diffusers' scheduler, step by step in float64, and against closed forms."""

import pytest
import torch
from torch import Tensor, nn

from impure.manifests.base.errors import InputError
from impure.purifier.defences.diffusion.diffpure import DiffPure
from impure.purifier.defences.diffusion.noise_predictor import NoisePredictor
from impure.purifier.defences.diffusion.resizing import resize
from impure.purifier.riae.noise_schedule import signal_shares
from tests.purifier.defences.diffusion.small_unets import SIZE, unet

SIGNAL = signal_shares()


@pytest.fixture(scope="module")
def model() -> NoisePredictor:
    return NoisePredictor(unet().double(), SIGNAL.tolist(), SIZE)


def pictures(count: int = 2, side: int = SIZE) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0)).double()


def seed_of(seed: int) -> int:
    """What a defence of that seed adds to the steps to seed their noise, in its first pass."""
    return int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(seed)))


def normal(step: int, seed: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(seed_of(seed) + step)
    return torch.randn(2, 3, SIZE, SIZE, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("visited", [[4, 3, 2, 1, 0], [4, 1]])
@torch.no_grad()
def test_steps_equal_those_of_diffusers_scheduler(model: NoisePredictor, visited: list[int]) -> None:
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler()
    scheduler.alphas_cumprod = SIGNAL  # its own are rounded to float32
    scheduler.alphas = SIGNAL / torch.cat([torch.ones(1), SIGNAL[:-1]])
    scheduler.betas = 1 - scheduler.alphas
    scheduler.set_timesteps(timesteps=visited)
    state = scheduler.add_noise(2 * pictures() - 1, normal(5), torch.tensor([4, 4]))
    for step in visited:
        generator = torch.Generator().manual_seed(seed_of(7) + step)
        state = scheduler.step(model.unet(state, step).sample, step, state, generator=generator).prev_sample
    defence = DiffPure(model, t=5, steps=len(visited))
    defence.reseed(7)
    assert torch.allclose(defence(pictures()), (state + 1) / 2, atol=1e-10)


@torch.no_grad()
def test_noise_is_added_as_the_closed_form_says(
    model: NoisePredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    def clean(noisy: Tensor, step: int) -> Tensor:
        seen.append(noisy)
        return noisy

    monkeypatch.setattr(model, "clean", clean)
    defence = DiffPure(model, t=150, steps=1)
    defence.reseed(7)
    defence(pictures())
    share = torch.linspace(1e-4, 0.02, 1000).double()[:150].neg().log1p().sum().exp()
    wanted = share.sqrt() * (2 * pictures() - 1) + (1 - share).sqrt() * normal(150)
    assert torch.allclose(seen[0], wanted, atol=1e-6)


@torch.no_grad()
def test_the_sde_keeps_a_distribution_that_it_knows() -> None:
    """With the score of N(0, I), -x, the reverse SDE leaves N(0, I) as it is."""
    model = NoisePredictor(nn.Identity(), SIGNAL.tolist(), 64)
    model.clean = lambda noisy, step: SIGNAL[step].sqrt() * noisy  # type: ignore[method-assign]
    images = (torch.randn(4, 3, 64, 64, dtype=torch.float64) + 1) / 2
    ends: list[Tensor] = []
    defence = DiffPure(model, t=200, steps=100, solver="vp-sde")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "clamp", lambda self, *_: ends.append(self) or self)  # else cut to [0, 1]
        defence(images)
    assert abs((2 * ends[-1] - 1).std() - 1) < 0.02


@torch.no_grad()
def test_both_solvers_end_near_each_other(model: NoisePredictor) -> None:
    """Over small steps, with the same noise, they differ by the second order of a step alone."""
    defences = [DiffPure(model, t=20, solver=name) for name in ("ddpm", "vp-sde")]  # type: ignore[arg-type]
    ancestral, sde = (defence(pictures()) for defence in defences)
    assert (ancestral - sde).abs().mean() < 0.02


def test_gradient_equals_the_one_without_checkpoints(
    model: NoisePredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gradient() -> Tensor:
        images = pictures(side=11).requires_grad_()
        defence = DiffPure(model, t=4)
        defence.reseed(3)
        weight = torch.linspace(-1, 1, images.numel(), dtype=torch.float64).view_as(images)
        return torch.autograd.grad((defence(images) * weight).sum(), images)[0]

    checkpointed = gradient()
    monkeypatch.setattr(
        "impure.purifier.defences.diffusion.diffpure.checkpoint", lambda step, *inputs, **_: step(*inputs)
    )
    assert checkpointed.abs().max() > 0 and torch.equal(checkpointed, gradient())


def test_memory_does_not_grow_with_the_steps(model: NoisePredictor) -> None:
    """What waits for the way back is little beside one step's activations, and its growth beside an image."""

    def kept(steps: int) -> int:
        sizes: list[int] = []
        images = pictures().requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: sizes.append(tensor.numel()) or tensor,  # type: ignore[func-returns-value]
            lambda tensor: tensor,
        ):
            DiffPure(model, t=steps)(images)
        return sum(sizes)

    activations: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: activations.append(tensor.numel()) or tensor,  # type: ignore[func-returns-value]
        lambda tensor: tensor,
    ):
        model.clean(pictures().requires_grad_(), 3)
    assert kept(12) - kept(2) <= 10 * pictures().numel() < sum(activations)


def test_resize_leaves_what_has_the_size(model: NoisePredictor) -> None:
    images = pictures()
    assert resize(images, (SIZE, SIZE)) is images and resize(images, (3, 5)).shape == (2, 3, 3, 5)


def test_every_part_of_the_way_is_walked_once(model: NoisePredictor) -> None:
    assert list(DiffPure(model, t=4)._way_back()) == [(3, 2), (2, 1), (1, 0), (0, -1)]
    assert list(DiffPure(model, t=150, steps=3)._way_back()) == [(149, 99), (99, 49), (49, -1)]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"t": 0}, "t is 0; it must be from 1 to 1000"),
        ({"t": 1001}, "t is 1001"),
        ({"t": 5, "steps": 6}, "steps is 6; it must be from 0 to t = 5"),
        ({"solver": "dpm"}, "no solver 'dpm'; choose from ddpm, vp-sde"),
    ],
)
def test_parameters_out_of_range(model: NoisePredictor, parameters: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DiffPure(model, **parameters)  # type: ignore[arg-type]
