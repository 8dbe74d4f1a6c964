"""The attack engine: nine attacks on stored 8-bit images behind one function."""

from collections.abc import Sequence

import torch
from torch import Tensor

from impure.pipeline.attacks.base import Attacked, AttackError, Model, model_dtype, pose, settle
from impure.pipeline.attacks.config import AttackConfig, parse_override
from impure.pipeline.attacks.draws import Draws
from impure.pipeline.attacks.registry import ATTACKS, AttackSpec

__all__ = [
    "ATTACKS",
    "AttackConfig",
    "AttackError",
    "AttackSpec",
    "Attacked",
    "attack_batch",
    "parse_override",
]


def attack_batch(
    config: AttackConfig,
    model: Model,
    clean: Tensor,
    labels: Tensor,
    source_ids: Sequence[str],
    seed: int,
    *,
    dtype: torch.dtype | None = None,
) -> Attacked:
    """Attack a batch and return the bytes to store.

    Args:
        config: which attack, with which budget and parameters.
        model: maps float images in [0, 1], (N, C, H, W), to logits (N, classes); in eval mode, frozen.
        clean: uint8, (N, C, H, W), on the model's device.
        labels: true classes, int64, (N,), on the same device.
        source_ids: one stable name per image; with `seed` they fix the image's random draws.
        seed: the collection's seed.
        dtype: what to compute in; by default the dtype of the model's parameters, float32 if it has none.

    Raises:
        AttackError: the attack or the target produced NaN or infinities; the message names the images.
        InputError: the attack needs a library that is missing, or more classes than the target has.
        ValueError: the tensors do not fit together.
    """
    draws = Draws(seed=seed, attack=config.name, source_ids=tuple(source_ids))
    problem = pose(model, clean, labels, config.eps_255, draws, dtype or model_dtype(model))
    return settle(problem, config.build().propose(problem))
