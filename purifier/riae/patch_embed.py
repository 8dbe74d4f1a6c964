"""From patches to tokens: a linear layer with the parameter names and shapes of timm."""

import torch
from torch import Tensor, nn


class PatchEmbed(nn.Module):
    """A linear layer from patches to tokens; its weight is shaped as ViT's convolution: (D, 3, p, p)."""

    def __init__(self, patch: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch, stride=patch)

    def forward(self, patches: Tensor) -> Tensor:
        """Tokens (..., D) of patches (..., 3pp), whose values are ordered by row, column, colour."""
        weight = self.proj.weight.permute(0, 2, 3, 1).flatten(1)
        return nn.functional.linear(patches, weight, self.proj.bias)

    def initialise(self) -> None:
        """Xavier, as for the linear layer that it is."""
        linear = torch.empty_like(self.proj.weight.permute(0, 2, 3, 1), memory_format=torch.contiguous_format)
        nn.init.xavier_uniform_(linear.flatten(1))
        with torch.no_grad():
            self.proj.weight.copy_(linear.permute(0, 3, 1, 2))
        nn.init.zeros_(self.proj.bias)  # type: ignore[arg-type]
