"""One-step denoising against diffusers' scheduler, and the noise that resizing leaves."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from impure.manifests.base.errors import InputError
from impure.purifier.defences.diffusion.consistency_model import ConsistencyModel
from impure.purifier.defences.diffusion.consistency_purification import ConsistencyPurification, _kept_noise
from impure.purifier.defences.diffusion.noise_predictor import NoisePredictor
from impure.purifier.defences.diffusion.one_step_denoiser import OneStepDenoiser
from impure.purifier.defences.diffusion.resizing import resize
from impure.purifier.riae.noise_schedule import signal_shares
from tests.purifier.defences.diffusion.small_unets import SIZE, unet


@torch.no_grad()
def test_a_consistency_model_equals_diffusers_step() -> None:
    from diffusers import CMStochasticIterativeScheduler

    scheduler = CMStochasticIterativeScheduler(sigma_max=1.0)
    scheduler.set_timesteps(1)
    network, sigma = unet(), float(scheduler.sigmas[0])
    noisy = torch.randn(2, 3, SIZE, SIZE) * 2
    step = scheduler.timesteps[0]
    output = network(scheduler.scale_model_input(noisy, step), step).sample
    wanted = scheduler.step(output, step, noisy).prev_sample
    assert sigma == pytest.approx(1)
    assert torch.allclose(ConsistencyModel(network, SIZE).denoise(noisy, sigma), wanted, atol=1e-5)


class Told(nn.Module):
    """The true noise, as a predictor that cannot err says it."""

    def __init__(self, noise: Tensor) -> None:
        super().__init__()
        self.noise = noise

    def forward(self, noisy: Tensor, step: int) -> SimpleNamespace:
        return SimpleNamespace(sample=self.noise)


@pytest.mark.parametrize("sigma", [0.25, 0.5, 1.0])
def test_a_ddpm_denoises_at_the_step_that_fits_the_noise(sigma: float) -> None:
    model = NoisePredictor(nn.Identity(), signal_shares().tolist(), SIZE)
    share = model.signal[model.step_of(2 * sigma)]
    assert ((1 - share) / share) ** 0.5 == pytest.approx(2 * sigma, rel=0.01)
    exact = ((1 - share) / share) ** 0.5
    images, noise = torch.rand(2, 3, SIZE, SIZE) * 2 - 1, torch.randn(2, 3, SIZE, SIZE)
    told = NoisePredictor(Told(noise), model.signal, SIZE)
    assert torch.allclose(told.denoise(images + exact * noise, 2 * sigma), images, atol=1e-5)


@pytest.mark.parametrize(("side", "new_side"), [(48, 32), (32, 48), (20, 20), (7, 3)])
def test_the_noise_that_is_left_after_resizing(side: int, new_side: int) -> None:
    noise = torch.randn(60, 3, side, side, generator=torch.Generator().manual_seed(0))
    kept = _kept_noise(side, new_side) ** 2
    assert resize(noise, (new_side, new_side)).square().mean().sqrt() == pytest.approx(kept, rel=0.02)


@torch.no_grad()
def test_the_model_is_told_the_noise_that_reaches_it() -> None:
    told: list[tuple[float, float]] = []

    class Listens(OneStepDenoiser):
        size = 16

        def denoise(self, noisy: Tensor, sigma: float) -> Tensor:
            told.append((float(noisy.std()), sigma))
            return noisy

    ConsistencyPurification(Listens(), sigma=0.25)(torch.full((50, 3, 24, 24), 0.5))
    assert told[0][0] == pytest.approx(told[0][1], rel=0.02)


def test_sigma_out_of_range() -> None:
    with pytest.raises(InputError, match="sigma is 0; it must be from 0.01 to 10"):
        ConsistencyPurification(NoisePredictor(nn.Identity(), [0.5], SIZE), sigma=0)
