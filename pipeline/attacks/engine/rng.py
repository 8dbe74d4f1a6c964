"""Random numbers keyed by image: none depends on an image's neighbours, the device or the batch size."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


def _digest(*key: object) -> int:
    """Hash a key to an integer in [0, 2^63), the seeds that `torch.Generator` takes everywhere."""
    text = json.dumps(key, ensure_ascii=True, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode("ascii")).digest()[:8], "big") >> 1


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyedRng:
    """The random numbers of one batch, one stream per image.

    A stream's key is (seed, source id, attack, restart), and the purpose of the draw within the attack.
    """

    seed: int
    attack: str
    source_ids: tuple[str, ...]
    restart: int = 0

    def uniform(self, purpose: str, shape: Sequence[int]) -> Tensor:
        """Draw from U[0, 1): float64 on the CPU, shape (N, *shape)."""
        return torch.stack([self._one(source_id, purpose, shape) for source_id in self.source_ids])

    def _one(self, source_id: str, purpose: str, shape: Sequence[int]) -> Tensor:
        seed = _digest(self.seed, source_id, self.attack, self.restart, purpose)
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(tuple(shape), dtype=torch.float64, generator=generator)

    def batch_seed(self) -> int:
        """Return one seed for the whole batch, for libraries that know only a global generator."""
        return _digest(self.seed, self.source_ids, self.attack, self.restart) >> 32

    def select(self, indices: Sequence[int]) -> "KeyedRng":
        """Return the streams of some of the images."""
        return replace(self, source_ids=tuple(self.source_ids[index] for index in indices))

    def with_restart(self, restart: int) -> "KeyedRng":
        """Return fresh streams for another restart of the same images."""
        return replace(self, restart=restart)

    def with_part(self, part: str) -> "KeyedRng":
        """Return fresh streams for one part of the attack."""
        return replace(self, attack=f"{self.attack}/{part}")
