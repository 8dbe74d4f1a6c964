"""Forecast of a run: what it would make, and what it would take at most."""

import time
from math import prod
from typing import Any

import torch

from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.engine.gradients import loss_and_gradient
from impure.pipeline.generation.run import GenerateConfig, GenerationRun

REPEATS = 3
MEMBER, SAMPLE, SHARD = 1 << 10, 1 << 12, 1 << 16
"""Bytes at most: of a member's header and padding; of a sample beside its images; of a shard beside these."""


def forecast(run: GenerationRun, config: GenerateConfig) -> dict[str, Any]:
    """Count images, pairs and shards; bound size and time.

    Returns:
        `images`, `attacks`, `pairs` and `shards`; `gib_at_most` of disk, as if nothing could be compressed;
        `hours_at_most` of one worker, as if no attack ended early. Shards that are there already count too.
    """
    tasks = run.tasks(config)
    images, attacks = sum(task.images for task in tasks), config.attacks
    shards = sum(len(task.attacks) for task in tasks)
    stored = sum(len(config.storage.images("clean" if attack is None else attack.name)) for attack in attacks)
    size = images * (stored * (3 * run.target.card.crop**2 + MEMBER) + len(attacks) * SAMPLE) + shards * SHARD
    gradients = sum(1 if attack is None else gradients_at_most(attack) for attack in attacks)
    seconds = images * gradients * seconds_per_gradient(run, config.batch_size)
    return {
        "images": images,
        "attacks": len(attacks),
        "pairs": images * len(attacks),
        "shards": shards,
        "gib_at_most": _short(size / 2**30),
        "hours_at_most": _short(seconds / 3600),
    }


def _short(value: float) -> float:
    """Three digits that count, of small numbers too."""
    return float(f"{value:.3g}")


def gradients_at_most(attack: AttackConfig) -> int:
    """Gradients (for Square: queries) that an attack takes for an image that withstands it to the end."""
    params = attack.params
    if {"target_classes", "queries"} <= set(params):  # AutoAttack's four one after another
        once = params["steps"] * (1 + 2 * params["target_classes"]) + params["queries"]
    else:
        names = ("steps", "search_steps", "candidates", "target_classes", "queries")
        once = prod(params.get(name, 1) for name in names)
    return int(once) * attack.restarts


def seconds_per_gradient(run: GenerationRun, batch_size: int) -> float:
    """How long the gradient of one image takes, in a batch of so many; the best of `REPEATS`."""
    side, device = run.target.card.crop, run.target.mean.device
    images = torch.rand(batch_size, 3, side, side, device=device).to(memory_format=torch.channels_last)
    durations = []
    for _ in range(REPEATS):
        started_at = time.perf_counter()
        *_, gradient = loss_and_gradient(run.target, images, lambda logits: logits.amax(1))
        gradient.sum().item()  # waits for the device
        durations.append(time.perf_counter() - started_at)
    return min(durations) / batch_size
