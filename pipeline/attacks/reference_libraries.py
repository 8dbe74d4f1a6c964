"""Torchattacks and CleverHans behind the same interface, for comparison; the threat model is enforced on what they return too."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from impure.manifests.base.errors import InputError
from impure.pipeline.attacks.engine.gradients import Model
from impure.pipeline.attacks.engine.threat_model import LEVELS, Problem, Proposal, grad_evals_of

Params = Mapping[str, float | int | bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """How one library runs one attack.

    Attributes:
        run: (target, problem, parameters in force) → adversarial float images.
        parameters: our parameters that the library has too; the others are not in force.
        required: values without which the library would run another attack than the one asked for.
        single_images: give it one image at a time, because a batch would mix images or hide each one's cost.
    """

    run: Callable[[nn.Module, Problem, Params], Tensor]
    parameters: tuple[str, ...] = ()
    required: Mapping[str, int] = field(default_factory=dict)
    single_images: bool = False


class LibraryModel(nn.Module):
    """Wraps a target for the libraries: always in eval mode, on a known device, counting backward passes.

    The model is held in a tuple, not as a submodule: Torchattacks switches the modes of what it is given.
    """

    def __init__(self, model: Model, like: Tensor):
        super().__init__()
        self.held, self.dtype, self.backwards = (model,), like.dtype, 0
        self.place = nn.Parameter(like.new_zeros(0), requires_grad=False)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return logits in the images' dtype; the target gets its own: some libraries insist on float32."""
        inner = images.to(self.dtype).view_as(images)
        if inner.requires_grad:
            inner.register_hook(self._count)
        return self.held[0](inner).to(images.dtype)

    def _count(self, gradient: Tensor) -> Tensor:
        """Count, and lay the gradient out as FAB's `view` needs it."""
        self.backwards += 1
        return gradient.contiguous()


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryAttack:
    """One attack of one library, with its parameters in force."""

    reference: Reference
    params: Params

    def propose(self, problem: Problem) -> Proposal:
        """Run the library with its global generator seeded for this batch, and put back afterwards.

        `grad_evals` are the backward passes that the library ran for the batch: an upper bound per image.
        """
        with _seeded(problem):
            if not self.reference.single_images:
                return self._run(problem)
            indices = torch.arange(len(problem.clean), device=problem.clean.device)
            parts = [self._run(problem.select(index)) for index in indices[:, None]]
        return Proposal(
            images=torch.cat([part.images for part in parts]),
            grad_evals=torch.cat([part.grad_evals for part in parts]),
        )

    def _run(self, problem: Problem) -> Proposal:
        target = LibraryModel(problem.model, problem.clean)
        with torch.enable_grad():
            images = self.reference.run(target, problem, self.params).detach().to(problem.clean.dtype)
        return Proposal(images=images, grad_evals=grad_evals_of(problem, target.backwards))


@contextmanager
def _seeded(problem: Problem) -> Iterator[None]:
    devices = [problem.clean.device] if problem.clean.is_cuda else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(problem.rng.batch_seed())
        yield


def _not_installed(package: str) -> InputError:
    return InputError(f"{package} is not installed; get it with: pip install 'impure[references]'")


def _torchattacks(
    choose: Callable[[Any], Any],
    arguments: Callable[[Problem, Params], dict[str, Any]],
    dtype: torch.dtype | None = None,
) -> Callable[[nn.Module, Problem, Params], Tensor]:
    def run(target: nn.Module, problem: Problem, params: Params) -> Tensor:
        try:
            import torchattacks
        except ImportError as error:
            raise _not_installed("torchattacks") from error
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


def _cleverhans_fgsm(target: nn.Module, problem: Problem, _: Params) -> Tensor:
    try:
        from cleverhans.torch.attacks.fast_gradient_method import fast_gradient_method
    except ImportError as error:
        raise _not_installed("cleverhans") from error
    images: Tensor = fast_gradient_method(
        target, problem.clean, problem.eps, math.inf, clip_min=0, clip_max=1, y=problem.labels
    )
    return images


def _cleverhans_pgd(target: nn.Module, problem: Problem, params: Params) -> Tensor:
    try:
        from cleverhans.torch.attacks.projected_gradient_descent import projected_gradient_descent
    except ImportError as error:
        raise _not_installed("cleverhans") from error
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
        raise _not_installed("cleverhans") from error
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


_PGD = ("alpha_255", "random_start", "steps")
_MI = ("alpha_255", "decay", "steps")
_DI = (*_MI, "diversity_prob", "random_start", "resize_rate")
_APGD = ("rho", "steps")
_CW = ("c0", "kappa", "lr", "steps")

REFERENCES: dict[str, dict[str, Reference]] = {
    "torchattacks": {
        "fgsm": Reference(run=_torchattacks(lambda library: library.FGSM, _linf_arguments)),
        "pgd": Reference(run=_torchattacks(lambda library: library.PGD, _linf_arguments), parameters=_PGD),
        "mifgsm": Reference(
            run=_torchattacks(lambda library: library.MIFGSM, _linf_arguments), parameters=_MI
        ),
        "difgsm": Reference(
            run=_torchattacks(lambda library: library.DIFGSM, _linf_arguments), parameters=_DI
        ),
        "mdifgsm": Reference(
            run=_torchattacks(lambda library: library.DIFGSM, _linf_arguments), parameters=_DI
        ),
        "apgd-ce": Reference(run=_torchattacks(lambda library: library.APGD, _apgd("ce")), parameters=_APGD),
        "apgd-dlr": Reference(
            run=_torchattacks(lambda library: library.APGD, _apgd("dlr")), parameters=_APGD
        ),
        "cw": Reference(
            run=_torchattacks(lambda library: library.CW, _l2_arguments),
            parameters=_CW,
            required={"search_steps": 1},
        ),
        "deepfool": Reference(
            run=_torchattacks(lambda library: library.DeepFool, _l2_arguments),
            parameters=("overshoot", "steps"),
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
    },
    "cleverhans": {
        "fgsm": Reference(run=_cleverhans_fgsm),
        "pgd": Reference(run=_cleverhans_pgd, parameters=_PGD),
        "cw": Reference(run=_cleverhans_cw, parameters=(*_CW, "search_steps"), single_images=True),
    },
}
"""Library → attack → how to run it. CleverHans 4.0.0 has three of them; its C&W must not see a batch."""
