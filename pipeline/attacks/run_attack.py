"""Running any attack on a batch of stored 8-bit images, behind one function."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.engine.eval_mode import giving_logits, in_eval_mode
from impure.pipeline.attacks.engine.gradients import Model
from impure.pipeline.attacks.engine.iterate import run_in_sequence
from impure.pipeline.attacks.engine.precision import in_precision, matrix_products
from impure.pipeline.attacks.engine.rng import KeyedRng
from impure.pipeline.attacks.engine.target_class import choose_criterion
from impure.pipeline.attacks.engine.threat_model import (
    Attack,
    AttackResult,
    Problem,
    Proposal,
    finalize,
    make_problem,
    model_dtype,
    refuse_broken,
)


def attack_batch(
    config: AttackConfig,
    model: Model,
    clean: Tensor,
    labels: Tensor,
    source_ids: Sequence[str],
    seed: int,
    *,
    dtype: torch.dtype | None = None,
    compiled: Model | None = None,
    eot: int = 1,
) -> AttackResult:
    """Attack a batch and return the bytes to store.

    Args:
        config: which attack, with which budget, target classes, parameters and precision.
        model: maps float images in [0, 1], (N, C, H, W), to logits (N, classes). In eval mode while it
            is attacked; each module is put back into its own mode.
        clean: uint8, (N, C, H, W), on the model's device.
        labels: true classes, int64, (N,), on the same device.
        source_ids: one stable name per image; with `seed` they fix the image's random draws.
        seed: the collection's seed.
        dtype: what to keep the attack's state in; by default the dtype of the model's parameters, float32 if
            it has none.
        compiled: the same target in another form, to attack through; predictions are `model`'s.
        eot: how often a random model is asked for each gradient; the mean counts.

    Raises:
        AttackError: the attack or the target produced NaN or infinities; the message names the images.
        InputError: the model returns no logits; the attack needs a library that is missing, more classes than
            the target has, or a device with other abilities.
        ValueError: the tensors do not fit together.
    """
    rng = KeyedRng(seed=seed, attack=config.name, source_ids=tuple(source_ids))
    dtype = dtype or model_dtype(model)
    problem = make_problem(giving_logits(model), clean, labels, config.eps_255, rng, dtype)
    with in_eval_mode(model):
        with matrix_products("fp32"):
            problem = problem.with_criterion(choose_criterion(config.targeted, problem))
        with matrix_products(config.precision):
            form = problem.model if compiled is None else compiled  # a compiled module has no truth value
            attacked_form = in_precision(form, config.precision, problem.clean)
            attacked = problem.with_model(attacked_form).with_eot(eot)
            proposal = _propose(config, attacked)
            _refuse_broken_target(config, attacked, proposal)
        with matrix_products("fp32"):
            return finalize(problem, proposal)


def _propose(config: AttackConfig, problem: Problem) -> Proposal:
    """Run the attack as often as asked, each time on the images that still withstand it."""
    attack = config.build()
    if config.restarts == 1:
        return attack.propose(problem)
    return run_in_sequence(
        problem, [partial(_restart, attack, restart) for restart in range(config.restarts)]
    )


def _refuse_broken_target(config: AttackConfig, problem: Problem, proposal: Proposal) -> None:
    """Where pixels are NaN, attack once more and watch whether the target was the first to give NaN.

    Raises:
        AttackError: it was; the message names the images.
    """
    if proposal.images.isfinite().all():
        return
    sound: list[Tensor] = []

    def watched(images: Tensor) -> Tensor:
        inner = images.view_as(images)
        broken_before = ~images.detach().flatten(1).isfinite().all(1)
        if inner.requires_grad:
            inner.register_hook(
                lambda slope: sound.append(slope.flatten(1).isfinite().all(1) | broken_before)
            )
        logits = problem.model(inner)
        sound.append(logits.detach().amax(1).isfinite() | broken_before)
        return logits

    _propose(config, problem.with_model(watched, batched_gradients=False))
    if not all(images.all() for images in sound):
        complaint = "the target gives NaN or infinite logits or gradients under attack"
        refuse_broken(proposal.images, complaint, problem.rng.source_ids)


def _restart(attack: Attack, restart: int, problem: Problem, _: Tensor) -> Proposal:
    return attack.propose(problem.with_restart(restart))
