"""Who competes for the smallest perturbation: our attacks, and the libraries' as their users call them.

Libraries get contiguous images, channels first: adv_lib's FMN silently projects nothing otherwise.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from torch import Tensor, nn

from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.engine.threat_model import Problem

UNBOUND = 255
"""No budget: the libraries know none for these attacks."""

GRADIENTS = 100
"""Of DDN and FMN."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One attack of one library.

    Attributes:
        library: the package that has it.
        run: (target, problem) → float images.
        stored: whether it looks for success among images of 256 levels.
    """

    library: str
    run: Callable[[nn.Module, Problem], Tensor]
    stored: bool = False

    @property
    def installed(self) -> bool:
        """Whether the package can be imported."""
        return find_spec(self.library) is not None


def configured(
    name: str, implementation: str = "impure", *, stored: bool = False, **changes: Any
) -> Contender:
    """One of the attacks that we know by an `AttackConfig`."""
    config = AttackConfig(
        name=name,
        eps_255=UNBOUND,
        implementation=implementation,
        overrides=tuple(changes.items()),
        preset="library" if implementation == "torchattacks" else "paper",  # it knows no search over c
    )

    def run(_: nn.Module, problem: Problem) -> Tensor:
        return config.build().propose(replace(problem, quantised=stored)).images

    return Contender(library=implementation, run=run, stored=stored)


def adv_lib(name: str, *, stored: bool = False, **parameters: Any) -> Contender:
    """A function of adv_lib (adversarial-library)."""

    def run(target: nn.Module, problem: Problem) -> Tensor:
        attack = getattr(import_module("adv_lib.attacks"), name)
        images: Tensor = attack(target, problem.clean.contiguous(), problem.labels, **parameters)
        return images

    return Contender(library="adv_lib", run=run, stored=stored)


def foolbox(name: str, **parameters: Any) -> Contender:
    """An attack of foolbox."""

    def run(target: nn.Module, problem: Problem) -> Tensor:
        library = import_module("foolbox")
        model = library.PyTorchModel(target, bounds=(0, 1), device=problem.clean.device)
        attack = getattr(library.attacks, name)(**parameters)
        images: Tensor = attack.run(model, problem.clean.contiguous(), problem.labels)
        return images

    return Contender(library="foolbox", run=run)


CONTENDERS: dict[str, dict[str, Contender]] = {
    "cw": {
        "impure": configured("cw", kappa=0.0),
        "impure, as stored": configured("cw", kappa=0.0, stored=True),
        "adv_lib": adv_lib(
            "carlini_wagner_l2", learning_rate=0.01, initial_const=0.1, binary_search_steps=5,
            max_iterations=50, abort_early=False,
        ),
        "foolbox": foolbox(
            "L2CarliniWagnerAttack", stepsize=0.01, initial_const=0.1, binary_search_steps=5, steps=50,
            abort_early=False,
        ),
        "torchattacks": configured("cw", "torchattacks", kappa=0.0),
        "cleverhans": configured("cw", "cleverhans", kappa=0.0),
    },
    "deepfool": {
        "impure": configured("deepfool"),
        "impure, as stored": configured("deepfool", stored=True),
        "adv_lib": adv_lib("df", steps=50),
        "foolbox": foolbox("L2DeepFoolAttack", steps=50, candidates=10),
        "torchattacks": configured("deepfool", "torchattacks"),
    },
    "ddn": {
        "impure": configured("ddn", steps=GRADIENTS),
        "impure, as stored": configured("ddn", steps=GRADIENTS, stored=True),
        "adv_lib": adv_lib("ddn", steps=GRADIENTS, levels=None),
        "adv_lib, 256 levels": adv_lib("ddn", steps=GRADIENTS, levels=256, stored=True),
        "foolbox": foolbox("DDNAttack", steps=GRADIENTS),
    },
    "fmn": {
        "impure": configured("fmn", steps=GRADIENTS),
        "impure, as stored": configured("fmn", steps=GRADIENTS, stored=True),
        "adv_lib": adv_lib("fmn", norm=2, steps=GRADIENTS),
        "foolbox": foolbox("L2FMNAttack", steps=GRADIENTS),
    },
}  # fmt: skip
"""Attack → name → contender; all of an attack with the same parameters and as many gradients, but
Torchattacks' C&W, which knows no search over c and gets its own."""
