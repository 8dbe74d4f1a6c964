"""DiffPure: noise hides an attack, and a diffusion model takes noise and attack off together."""

import math
from collections.abc import Callable, Iterator
from typing import Literal, get_args

import torch
from torch import Generator, Tensor
from torch.utils.checkpoint import checkpoint

from impure.manifests.base.errors import InputError
from impure.purifier.defences.diffusion.ddpm import DDPM
from impure.purifier.defences.diffusion.diffusion_defence import DiffusionDefence
from impure.purifier.defences.diffusion.noise_predictor import NoisePredictor
from impure.purifier.defences.diffusion.one_step_denoiser import OneStepDenoiser
from impure.purifier.defences.diffusion.resizing import resize

Solver = Literal["ddpm", "vp-sde"]
Noise = Callable[[int], Tensor]  # the standard normal noise of a step, the same whenever it is asked for

_SEEDS = 2**62


class DiffPure(DiffusionDefence):
    """Nie et al. 2022 (arXiv:2205.07460): diffusion to t*, then denoising step by step back to 0.

    Images are resized to the model's square and back. Exact gradient: steps are computed again on the way
    back, so that memory holds the network's activations of one step, however many there are.
    """

    source = "Nie et al. 2022, arXiv:2205.07460"
    threat_model = "white-box"

    def __init__(
        self, network: DDPM | OneStepDenoiser, *, t: int = 150, steps: int = 0, solver: Solver = "ddpm"
    ) -> None:
        """Put the model in eval mode.

        Args:
            network: A `DDPM` or a `NoisePredictor`.
            t: t*, the number of steps of noise, of the model's (mostly 1000). The paper's for ImageNet; its
                program's default of 10 removes next to nothing.
            steps: In how many steps to go back, evenly spaced; 0: in as many as there were.
            solver: `ddpm`: ancestral sampling (Ho et al. 2020, Algorithm 2, its predicted images clipped and
                its variance the lower one); `vp-sde`: the reverse-time SDE, which the paper solves
                (its Eq. 9), by Euler and Maruyama.

        Raises:
            InputError: A parameter is out of its range.
        """
        super().__init__()
        model = network.model if isinstance(network, DDPM) else network
        if not isinstance(model, NoisePredictor):
            raise InputError("defence 'diffpure' goes back step by step: it takes no consistency model")
        if not 1 <= t <= len(model.signal):
            raise InputError(f"defence 'diffpure': t is {t}; it must be from 1 to {len(model.signal)}")
        if not 0 <= steps <= t:
            raise InputError(f"defence 'diffpure': steps is {steps}; it must be from 0 to t = {t}")
        if solver not in get_args(Solver):
            names = ", ".join(get_args(Solver))
            raise InputError(f"defence 'diffpure': no solver {solver!r}; choose from {names}")
        self.model = model.eval()
        self.t = t
        self.steps = steps or t
        self.solver = solver

    def defend(self, images: Tensor) -> Tensor:
        """Return purified images."""
        state = 2 * resize(images, (self.model.size, self.model.size)) - 1
        seed = int(torch.randint(_SEEDS, (), generator=self._generator))
        noise = _noise(state[: self.rows(images)], seed)
        share = self.model.signal[self.t - 1]
        state = share**0.5 * state + (1 - share) ** 0.5 * noise(self.t)
        go_back = _ancestral_step if self.solver == "ddpm" else _sde_step
        for step, after in self._way_back():
            state = checkpoint(
                go_back, self.model, state, step, after, noise, use_reentrant=False, preserve_rng_state=False
            )
        return resize((state + 1) / 2, images.shape[2:]).clamp(0, 1)

    def _way_back(self) -> Iterator[tuple[int, int]]:
        """The model's step where the image is, and the one it goes to; -1 is the image without noise."""
        visited = [(part * self.t) // self.steps - 1 for part in range(self.steps, -1, -1)]
        yield from zip(visited, visited[1:], strict=False)


def _noise(images: Tensor, seed: int) -> Noise:
    """Noise of the images' shape and type: nothing is kept of it, it is drawn again where it is needed."""

    def draw(step: int) -> Tensor:
        generator = Generator(images.device).manual_seed(seed + step)
        return torch.randn(images.shape, generator=generator, dtype=images.dtype, device=images.device)

    return draw


def _ancestral_step(model: NoisePredictor, state: Tensor, step: int, after: int, noise: Noise) -> Tensor:
    """One step back, over any number of the model's: the posterior of Ho et al. 2020, Eqs. 6 and 7."""
    clean = model.clean(state, step)
    if after < 0:
        return clean
    share, next_share = model.signal[step], model.signal[after]
    alpha = share / next_share
    mean = math.sqrt(next_share) * (1 - alpha) * clean + math.sqrt(alpha) * (1 - next_share) * state
    variance = (1 - next_share) / (1 - share) * (1 - alpha)
    return mean / (1 - share) + math.sqrt(variance) * noise(step)


def _sde_step(model: NoisePredictor, state: Tensor, step: int, after: int, noise: Noise) -> Tensor:
    """One step of Euler and Maruyama; the time that passes is the integral of β, as ᾱ = exp(-∫β)."""
    share = model.signal[step]
    clean = model.clean(state, step)
    score = (math.sqrt(share) * clean - state) / (1 - share)
    time = math.log((model.signal[after] if after >= 0 else 1.0) / share)
    state = state + time * (state / 2 + score)
    return state if after < 0 else state + math.sqrt(time) * noise(step)
