"""Nothing of a result depends on how many images are attacked at once."""

from functools import cache

import numpy as np
import pytest
import torch

from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.attack_registry import ATTACKS
from impure.pipeline.attacks.run_attack import attack_batch
from impure.pipeline.builtin.drawing import CLASSES, render
from impure.pipeline.targets.load import load_target

SHORTER = {
    "cw": (("steps", 10), ("search_steps", 2), ("kappa", 0.0), ("lr", 0.05)),
    "apgd-t": (("steps", 5), ("target_classes", 3)),
    "fab-t": (("steps", 5), ("target_classes", 3)),
    "square": (("queries", 100),),
    "autoattack": (("steps", 4), ("target_classes", 2), ("queries", 40)),
}


@cache
def pictures():
    """Thirty-two built-in pictures that the built-in target knows."""
    target = load_target("builtin")
    scenes = [(label, index) for index in range(5) for label in range(len(CLASSES))]
    drawn = np.stack([render("val", CLASSES[label], index, target.card.crop) for label, index in scenes])
    images, labels = torch.from_numpy(drawn).permute(0, 3, 1, 2), torch.tensor([label for label, _ in scenes])
    right = (target(images / 255).argmax(1) == labels).nonzero().flatten()[:32]
    return images[right], labels[right], [f"val/{index}" for index in right.tolist()]


def attacked(name, batch_size, dtype):
    target = load_target("builtin").to(dtype)
    images, labels, ids = pictures()
    config = AttackConfig(name=name, overrides=SHORTER.get(name, ()))
    parts = [
        attack_batch(config, target, images[part], labels[part], [ids[index] for index in part.tolist()], 0)
        for part in torch.arange(len(images)).split(batch_size)
    ]
    pixels = torch.cat([part.adversarial for part in parts])
    return pixels, target(pixels.to(dtype) / 255).argmax(1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
def test_float64_pixels_are_the_same_for_1_7_and_32_at_once(name):
    whole = attacked(name, 32, torch.float64)[0]
    assert len(whole) == 32
    for size in (1, 7):
        assert torch.equal(attacked(name, size, torch.float64)[0], whole)


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
def test_float32_verdicts_are_the_same_for_1_7_and_32_at_once(name):
    whole = attacked(name, 32, torch.float32)[1]
    assert (whole != pictures()[1]).float().mean() > 0.3
    for size in (1, 7):
        assert torch.equal(attacked(name, size, torch.float32)[1] != pictures()[1], whole != pictures()[1])
