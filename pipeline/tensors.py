"""Between 8-bit pixels and float tensors."""

import numpy as np
import torch
from torch import Tensor

from impure.manifests.base.images import Pixels


def to_tensor(images: list[Pixels], device: torch.device) -> Tensor:
    """Stack pixels (H, W, 3) to one uint8 tensor (N, 3, H, W) on `device`, channels last in memory."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(device)


def to_pixels(batch: Tensor) -> list[Pixels]:
    """Split a uint8 tensor (N, 3, H, W) into pixels (H, W, 3)."""
    return list(np.ascontiguousarray(batch.permute(0, 2, 3, 1).cpu().numpy()))


def to_float(batch: Tensor) -> Tensor:
    """Stored bytes to what every network takes: float32 in [0,1]."""
    return batch.to(torch.float32) / 255
