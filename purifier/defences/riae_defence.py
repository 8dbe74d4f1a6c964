"""The purifier as a defence: RIAE (Liu et al. 2023, arXiv:2311.15339)."""

from typing import get_args

import torch
from torch import Generator, Tensor

from impure.manifests.base.errors import InputError
from impure.purifier.defences.base.defence import TrainedDefence
from impure.purifier.riae.model import RIAE
from impure.purifier.riae.noise import Partition, Randomness


class RIAEDefence(TrainedDefence):
    """`RIAE.purify`; the noise goes on from image to image and from call to call. Exact gradient."""

    source = "Liu et al. 2023, arXiv:2311.15339"

    def __init__(self, riae: RIAE, *, seed: int = 0, partition: Partition = "uniform") -> None:
        """Put the purifier in eval mode.

        Args:
            riae: The trained purifier.
            seed: Of the noise.
            partition: `uniform` (the paper's choice for tests) or `random` (its section 5.3).

        Raises:
            InputError: `partition` is unknown.
        """
        super().__init__()
        if partition not in get_args(Partition):
            names = ", ".join(get_args(Partition))
            raise InputError(f"defence 'riae': partition {partition!r} is unknown; choose from {names}")
        self.riae = riae.eval()
        self.partition = partition
        self.reseed(seed)

    @classmethod
    def load(cls, weights: str) -> RIAE:
        """Read a checkpoint; see `RIAE.from_pretrained`."""
        return RIAE.from_pretrained(weights)

    @property
    def is_random(self) -> bool:
        """Whether two passes may differ: with noise, or with a random partition."""
        return self.riae.config.mask != "occlusion" or self.partition == "random"

    @property
    def settings(self) -> dict[str, object]:
        """What decides its randomness: partition, masking mode and noise steps."""
        config = self.riae.config
        noise = {"image_step": config.image_step, "feature_step": config.feature_step}
        return {"partition": self.partition, "mask": config.mask, **noise}

    def reseed(self, seed: int, *, alike: bool = False) -> None:
        """Begin the noise anew; see `Defence.reseed`."""
        self._seed = seed
        self._alike = alike
        self._generator: Generator | None = None  # made on the images' device

    def defend(self, images: Tensor) -> Tensor:
        """Return purified images."""
        if self._generator is None or self._generator.device != images.device:
            self._generator = torch.Generator(images.device).manual_seed(self._seed)
        if self._alike:
            return self._purify_alike(images, self._generator)
        return self.riae.purify(images, seed=self._generator, partition=self.partition)

    def _purify_alike(self, images: Tensor, generator: Generator) -> Tensor:
        """`RIAE.purify` with the first image's randomness for all."""
        padded = self.riae.pad(images)
        first = self.riae.draw_test(padded[:1], generator, self.partition)
        purified = self.riae.purify_once(padded, _repeat(first, len(padded)))
        return purified[..., : images.shape[2], : images.shape[3]]


def _repeat(randomness: Randomness, count: int) -> Randomness:
    """One image's randomness for `count` images; noises that are not used stay empty."""
    return Randomness(*(part.expand(count, *part.shape[1:]) if len(part) else part for part in randomness))
