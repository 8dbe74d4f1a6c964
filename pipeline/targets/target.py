"""A classifier of [0,1] images with its normalisation inside."""

import hashlib
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from impure.manifests.base.errors import InputError
from impure.pipeline.targets.target_card import TargetCard

MEMORY_FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
"""How weights and images may lie in memory. Which is faster depends on device, precision and network."""


class Target(nn.Module):
    """A frozen classifier: [0,1] RGB (N, 3, H, W) in, logits (N, classes) out.

    Attributes:
        card: What it is.
        weights_sha256: Of its state dict: the same weights give the same value from any file.
        memory_format: Of its weights, and best of the images that it is given.
    """

    def __init__(self, card: TargetCard, network: nn.Module) -> None:
        super().__init__()
        self.card = card
        self.weights_sha256 = state_sha256(network)
        self.network, self.memory_format = network, torch.contiguous_format  # as networks are built
        self.lay_out("channels_last")
        self.register_buffer("mean", torch.tensor(card.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(card.std).view(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    mean: Tensor
    std: Tensor

    def lay_out(self, memory_format: str) -> None:
        """Keep the weights in a memory format, a key of `MEMORY_FORMATS`.

        Raises:
            InputError: There is no such format.
        """
        if memory_format not in MEMORY_FORMATS:
            raise InputError(f"memory format {memory_format!r} is none of {', '.join(MEMORY_FORMATS)}")
        if MEMORY_FORMATS[memory_format] != self.memory_format:
            self.memory_format = MEMORY_FORMATS[memory_format]
            self.network.to(memory_format=self.memory_format)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        """Logits of [0,1] images."""
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits

    def identity(self) -> dict[str, Any]:
        """Everything that decides the target's predictions, for digests and collection.json."""
        return {**asdict(self.card), "weights": self.weights_sha256}


def state_sha256(network: nn.Module) -> str:
    """SHA-256 (hex) over names, shapes and values of a state dict, in order of name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
