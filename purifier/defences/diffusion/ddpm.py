"""DDPM, the diffusion model that `impure-train --model ddpm` trains."""

import math
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from impure.manifests.base.errors import InputError
from impure.purifier.defences.base.extras import needs_extra
from impure.purifier.defences.diffusion.noise_predictor import NoisePredictor
from impure.purifier.defences.diffusion.resizing import resize
from impure.purifier.defences.trained.base.network_sizes import check_sizes
from impure.purifier.defences.trained.base.trainable import Features, TrainableNetwork, TrainingImages
from impure.purifier.riae.noise_schedule import signal_shares


class DDPM(TrainableNetwork):
    """Denoising diffusion probabilistic model (Ho et al. 2020, arXiv:2006.11239), around diffusers' UNet.

    Defaults are those of the paper's network for CIFAR-10 (appendix B, 35.7 M parameters), without dropout:
    it would draw from PyTorch's global generator. `model.unet` can be saved in a diffusers pipeline.
    """

    name = "ddpm"
    learns_from = "clean"

    def __init__(
        self, *, size: int = 32, channels: int = 128, levels: int = 4, blocks: int = 2, attention: int = 1
    ) -> None:
        """Build the UNet with random weights.

        Args:
            size: Height = width in pixels that images are resized to.
            channels: At full resolution; twice as many below.
            levels: Resolutions, each half of the one before.
            blocks: Residual blocks at each.
            attention: The level, from 0, with self-attention (beside the lowest).

        Raises:
            InputError: A size is out of its bounds, or diffusers is not installed.
        """
        super().__init__()
        check_sizes(
            self.name, size=(size, 512), channels=(channels, 512), levels=(levels, 7), blocks=(blocks, 4)
        )
        if not 0 <= attention < levels:
            raise InputError(f"ddpm: attention is {attention}; it must be from 0 to {levels - 1}, levels - 1")
        if size % 2 ** (levels - 1):
            raise InputError(f"ddpm: size is {size}; {levels} levels want multiples of {2 ** (levels - 1)}")
        self.size, self.channels, self.levels = size, channels, levels
        self.blocks, self.attention = blocks, attention
        with needs_extra("ddpm", "diffusion"):
            from diffusers import UNet2DModel
        unet = UNet2DModel(**self._unet_settings())
        self.model = NoisePredictor(unet, signal_shares().tolist(), size)

    def losses(self, images: TrainingImages, generator: Generator, features: Features | None) -> Tensor:
        """Mean squared error of the predicted noise at random steps (Eq. 14); half the images mirrored."""
        clean = 2 * resize(images.clean, (self.size, self.size)) - 1
        mirrored = torch.rand(len(clean), 1, 1, 1, generator=generator, device=clean.device) < 0.5
        clean = torch.where(mirrored, clean.flip(3), clean)
        signal = torch.tensor(self.model.signal, dtype=clean.dtype, device=clean.device)
        step = torch.randint(len(signal), (len(clean),), generator=generator, device=clean.device)
        noise = torch.randn(clean.shape, generator=generator, dtype=clean.dtype, device=clean.device)
        share = signal[step].view(-1, 1, 1, 1)
        predicted: Tensor = self.model.unet(share.sqrt() * clean + (1 - share).sqrt() * noise, step).sample
        return F.mse_loss(predicted, noise)[None]

    def _unet_settings(self) -> dict[str, Any]:
        """Of diffusers' `UNet2DModel`."""
        attends = [level == self.attention for level in range(self.levels)]
        return {
            "sample_size": self.size,
            "block_out_channels": (self.channels, *[2 * self.channels] * (self.levels - 1)),
            "layers_per_block": self.blocks,
            "down_block_types": tuple("AttnDownBlock2D" if here else "DownBlock2D" for here in attends),
            "up_block_types": tuple("AttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attends)),
            "attention_head_dim": None,  # one head
            "norm_num_groups": math.gcd(32, self.channels),
            "norm_eps": 1e-6,
            "downsample_padding": 0,
            "flip_sin_to_cos": False,
            "freq_shift": 1,
        }
