"""The smallest diffusers models that still have every part."""

from pathlib import Path
from typing import Any

import torch

SIZE = 8


def unet(**changes: Any) -> Any:
    """An untrained UNet2DModel on 8-px images."""
    from diffusers import UNet2DModel

    settings = {
        "sample_size": SIZE,
        "block_out_channels": (8, 16),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "norm_num_groups": 4,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return UNet2DModel(**settings | changes).eval()


def save_ddpm(folder: Path, **schedule: Any) -> Path:
    """A DDPMPipeline as diffusers saves it."""
    from diffusers import DDPMPipeline, DDPMScheduler

    DDPMPipeline(unet(), DDPMScheduler(**schedule)).save_pretrained(folder)
    return folder


def save_consistency_model(folder: Path) -> Path:
    """A ConsistencyModelPipeline as diffusers saves it."""
    from diffusers import CMStochasticIterativeScheduler, ConsistencyModelPipeline

    ConsistencyModelPipeline(unet(), CMStochasticIterativeScheduler()).save_pretrained(folder)
    return folder
