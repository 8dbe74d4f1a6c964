"""RIAE can learn: 32 pairs by heart."""

import numpy as np
import pytest
import torch
from torch import Generator

from impure.pipeline.builtin.drawing import CLASSES, render
from impure.purifier.data.dataset import Batch
from impure.purifier.riae import riae_config as presets
from impure.purifier.riae.model import RIAE
from impure.purifier.riae.riae_config import RIAEConfig
from impure.purifier.training.objectives.riae_objective import RIAEObjective
from impure.purifier.training.train_config import TrainConfig, learning_rate
from impure.purifier.training.train_step import TrainStep

STEPS = 1500
SMALL = RIAEConfig(
    patch=4, grid=4, position_period=30.0, position_scale=3.0, encoder_dim=64, encoder_depth=3,
    encoder_heads=4, decoder_dim=64, decoder_depth=2, decoder_heads=4, fusion=(0,),
)  # fmt: skip


def pairs() -> Batch:
    """Eight pictures of 16 pixels, each under four perturbations of 16/255: an L1 of 0.06."""
    pictures = np.stack([render("train", CLASSES[index], index, 16) for index in range(8)])
    clean = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    image = torch.arange(8).repeat_interleave(4)
    signs = torch.randint(2, (32, 3, 16, 16), generator=Generator().manual_seed(0)) * 2 - 1
    return Batch(
        (clean[image].int() + 16 * signs).clamp(0, 255).byte(), clean, image, 1.0, torch.zeros_like(image)
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_small_riae_overfits_32_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(presets.PRESETS, "tiny", SMALL)
    config = TrainConfig(
        preset="tiny", recipe="pixel", epochs=STEPS, warmup_epochs=50, learning_rate=5e-3, weight_decay=0.0
    )
    torch.manual_seed(0)
    train_step = TrainStep(config, RIAEObjective(config, RIAE(config.riae()), None), torch.device("cpu"))
    batch = pairs()
    for step in range(STEPS):
        train_step.update([batch], step, learning_rate(config, step, 1))
    with torch.no_grad():
        purified = train_step.model.purify(batch.adversarial / 255, seed=1)
    assert (purified - batch.clean[batch.clean_row] / 255).abs().mean() < 0.02
