"""The base of defences around a diffusion model: one of impure-train's, or one in diffusers' format."""

from abc import ABC

from torch import nn

from impure.purifier.defences.base.random_defence import RandomDefence
from impure.purifier.defences.diffusion.ddpm import DDPM
from impure.purifier.defences.diffusion.diffusers_files import find_diffusers_folder, load_diffusion_model
from impure.purifier.defences.trained.base.network_defence import NetworkDefence


class DiffusionDefence(RandomDefence, NetworkDefence, ABC):
    """A defence that takes a `DDPM`, or what `load_diffusion_model` reads."""

    network_kind = DDPM
    extra = "diffusion"

    @classmethod
    def load(cls, weights: str) -> nn.Module:
        """Read a run of `impure-train --model ddpm`, or a diffusers UNet or pipeline.

        Args:
            weights: A run's folder; a folder in diffusers' format; or either on the Hugging Face Hub.

        Raises:
            InputError: It cannot be read, or is something else.
        """
        folder = find_diffusers_folder(weights)
        return super().load(weights) if folder is None else load_diffusion_model(folder)
