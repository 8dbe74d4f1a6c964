"""Torchattacks' attacks: their classes, and our parameters in their names."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from impure.pipeline.attacks.engine.threat_model import LEVELS, Problem
from impure.pipeline.attacks.references.library_attack import Params, Reference, not_installed


def _torchattacks(
    choose: Callable[[Any], Any],
    arguments: Callable[[Problem, Params], dict[str, Any]],
    dtype: torch.dtype | None = None,
) -> Callable[[nn.Module, Problem, Params], Tensor]:
    def run(target: nn.Module, problem: Problem, params: Params) -> Tensor:
        try:
            import torchattacks
        except ImportError as error:
            raise not_installed("torchattacks") from error
        attack = choose(torchattacks)(target, **arguments(problem, params))
        clean = problem.clean if dtype is None else problem.clean.to(dtype).contiguous()
        images: Tensor = attack(clean, problem.labels)
        return images

    return run


def _linf_arguments(problem: Problem, params: Params) -> dict[str, Any]:
    """Translate the parameters of the gradient attacks, whose names are Torchattacks' but for alpha."""
    translated = {name: value for name, value in params.items() if name != "alpha_255"}
    if "alpha_255" in params:
        translated["alpha"] = params["alpha_255"] / LEVELS
    return {"eps": problem.eps, **translated}


def _apgd(loss: str) -> Callable[[Problem, Params], dict[str, Any]]:
    # APGD re-seeds the global generator at every call: it must be told the seed.
    return lambda problem, params: {
        **_linf_arguments(problem, params),
        "loss": loss,
        "seed": problem.rng.batch_seed(),
    }


def _autoattack_arguments(**fixed: Any) -> Callable[[Problem, Params], dict[str, Any]]:
    def arguments(problem: Problem, params: Params) -> dict[str, Any]:
        """Translate the parameters of AutoAttack and its parts, which re-seed like APGD."""
        named = {"queries": "n_queries"}
        own = {named.get(name, name): value for name, value in params.items() if name != "target_classes"}
        if "target_classes" in params:
            with torch.no_grad():
                own["n_classes"] = min(
                    int(params["target_classes"]) + 1, problem.model(problem.clean[:1]).shape[1]
                )
        return {"eps": problem.eps, "seed": problem.rng.batch_seed(), **own, **fixed}

    return arguments


def _l2_arguments(_: Problem, params: Params) -> dict[str, Any]:
    return {{"c0": "c"}.get(name, name): value for name, value in params.items()}


_MI = ("alpha_255", "decay", "steps")
_DI = (*_MI, "diversity_prob", "random_start", "resize_rate")
_APGD = ("rho", "steps")

_DIFGSM = Reference(
    run=_torchattacks(lambda library: library.DIFGSM, _linf_arguments),
    parameters=_DI,
    required={"clean_gradient": False},
)

TORCHATTACKS: dict[str, Reference] = {
    "fgsm": Reference(run=_torchattacks(lambda library: library.FGSM, _linf_arguments)),
    "pgd": Reference(
        run=_torchattacks(lambda library: library.PGD, _linf_arguments),
        parameters=("alpha_255", "random_start", "steps"),
        required={"clean_gradient": False},
    ),
    "mifgsm": Reference(
        run=_torchattacks(lambda library: library.MIFGSM, _linf_arguments),
        parameters=_MI,
        required={"random_start": False, "clean_gradient": False},
    ),
    "difgsm": _DIFGSM,
    "mdifgsm": _DIFGSM,
    "apgd-ce": Reference(run=_torchattacks(lambda library: library.APGD, _apgd("ce")), parameters=_APGD),
    "apgd-dlr": Reference(run=_torchattacks(lambda library: library.APGD, _apgd("dlr")), parameters=_APGD),
    "cw": Reference(
        run=_torchattacks(lambda library: library.CW, _l2_arguments),
        parameters=("c0", "kappa", "lr", "steps"),
        required={"search_steps": 1},
    ),
    "deepfool": Reference(
        run=_torchattacks(lambda library: library.DeepFool, _l2_arguments),
        parameters=("overshoot", "steps"),
        required={"sign_255": 0},
        single_images=True,
    ),
    "apgd-t": Reference(
        run=_torchattacks(lambda library: library.APGDT, _autoattack_arguments()),
        parameters=(*_APGD, "target_classes"),
    ),
    "fab-t": Reference(
        # FAB computes in float32 whatever it is given.
        run=_torchattacks(
            lambda library: library.FAB, _autoattack_arguments(multi_targeted=True), torch.float32
        ),
        parameters=("target_classes", "alpha_max", "beta", "eta", "steps"),
    ),
    "square": Reference(
        run=_torchattacks(lambda library: library.Square, _autoattack_arguments()),
        parameters=("p_init", "queries"),
    ),
    "autoattack": Reference(
        run=_torchattacks(lambda library: library.AutoAttack, _autoattack_arguments(), torch.float32),
        parameters=("target_classes",),
        required={"steps": 10, "queries": 5000},
    ),
}
