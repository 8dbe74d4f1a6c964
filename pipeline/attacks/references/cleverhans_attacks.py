"""CleverHans' attacks: version 4.0.0 has three of ours; its C&W must not see a batch."""

import math

import torch
from torch import Tensor, nn

from impure.manifests.base.errors import InputError
from impure.pipeline.attacks.engine.threat_model import LEVELS, Problem
from impure.pipeline.attacks.references.library_attack import Params, Reference, not_installed


def _cleverhans_fgsm(target: nn.Module, problem: Problem, _: Params) -> Tensor:
    try:
        from cleverhans.torch.attacks.fast_gradient_method import fast_gradient_method
    except ImportError as error:
        raise not_installed("cleverhans") from error
    images: Tensor = fast_gradient_method(
        target, problem.clean, problem.eps, math.inf, clip_min=0, clip_max=1, y=problem.labels
    )
    return images


def _cleverhans_pgd(target: nn.Module, problem: Problem, params: Params) -> Tensor:
    try:
        from cleverhans.torch.attacks.projected_gradient_descent import projected_gradient_descent
    except ImportError as error:
        raise not_installed("cleverhans") from error
    step = params["alpha_255"] / LEVELS
    if step > problem.eps:
        raise InputError(f"cleverhans refuses steps above ε: lower alpha_255 ({params['alpha_255']})")
    images: Tensor = projected_gradient_descent(
        target,
        problem.clean,
        problem.eps,
        step,
        params["steps"],
        math.inf,
        clip_min=0,
        clip_max=1,
        y=problem.labels,
        rand_init=params["random_start"],
        sanity_checks=False,
    )
    return images


def _cleverhans_cw(target: nn.Module, problem: Problem, params: Params) -> Tensor:
    try:
        from cleverhans.torch.attacks.carlini_wagner_l2 import carlini_wagner_l2
    except ImportError as error:
        raise not_installed("cleverhans") from error
    with torch.no_grad():
        classes = target(problem.clean).shape[1]
    images: Tensor = carlini_wagner_l2(
        target,
        problem.clean,
        classes,
        y=problem.labels,
        lr=params["lr"],
        confidence=params["kappa"],
        initial_const=params["c0"],
        binary_search_steps=params["search_steps"],
        max_iterations=params["steps"],
    )
    return images


CLEVERHANS: dict[str, Reference] = {
    "fgsm": Reference(run=_cleverhans_fgsm),
    "pgd": Reference(
        run=_cleverhans_pgd,
        parameters=("alpha_255", "random_start", "steps"),
        required={"clean_gradient": False},
    ),
    "cw": Reference(
        run=_cleverhans_cw, parameters=("c0", "kappa", "lr", "search_steps", "steps"), single_images=True
    ),
}
