"""The purifier as a defence."""

from typing import get_args

import torch
from torch import Generator, Tensor

from impure.manifests.base.errors import InputError
from impure.purifier.defences.defence import Defence
from impure.purifier.riae.model import RIAE
from impure.purifier.riae.noise import Partition, Randomness
from impure.purifier.riae.patches import reflect_pad


class RIAEDefence(Defence):
    """`RIAE.purify`; the noise goes on from image to image and from call to call."""

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

    def reseed(self, seed: int, *, alike: bool = False) -> None:
        """Begin the noise anew; see `Defence.reseed`."""
        self._seed, self._alike = seed, alike
        self._generator: Generator | None = None  # made on the images' device

    def forward(self, images: Tensor) -> Tensor:
        """Purified images."""
        if self._generator is None or self._generator.device != images.device:
            self._generator = torch.Generator(images.device).manual_seed(self._seed)
        if self._alike:
            return self._purify_alike(images, self._generator)
        return self.riae.purify(images, seed=self._generator, partition=self.partition)

    def _purify_alike(self, images: Tensor, generator: Generator) -> Tensor:
        """`RIAE.purify` with the first image's randomness for all."""
        padded = reflect_pad(images, self.riae.config.multiple)
        drawn = self.riae.draw_test(padded[:1], generator, self.partition)
        purified = self.riae.purify_once(padded, _repeat(drawn, len(padded)))
        return purified[..., : images.shape[2], : images.shape[3]]


def _repeat(randomness: Randomness, count: int) -> Randomness:
    """One image's randomness for `count` images; noises that are not used stay empty."""
    return Randomness(*(each.expand(count, *each.shape[1:]) if len(each) else each for each in randomness))
