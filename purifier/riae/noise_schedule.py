"""DDPM's noise schedule: how much of an image is left after each step of diffusion."""

import torch
from torch import Tensor

STEPS = 1000
FIRST_BETA = 1e-4
LAST_BETA = 0.02


def signal_shares() -> Tensor:
    """ᾱ_t of steps t = 1 … 1000 (Ho et al. 2020, arXiv:2006.11239, Eq. 4 and section 4), float64 (1000,).

    A step leaves sqrt(ᾱ_t) of an image and adds noise of variance 1 - ᾱ_t.
    """
    betas = torch.linspace(FIRST_BETA, LAST_BETA, STEPS, dtype=torch.float64, device="cpu")
    return (1 - betas).cumprod(0)
