"""The attacks and their presets: the paper's (section 4.1, authors' scripts) and Torchattacks' own."""

from collections.abc import Mapping
from dataclasses import dataclass

from impure.pipeline.attacks.engine.threat_model import Attack
from impure.pipeline.attacks.methods.apgd import APGDCE, APGDDLR, APGDT
from impure.pipeline.attacks.methods.autoattack import AutoAttack
from impure.pipeline.attacks.methods.cw import CW
from impure.pipeline.attacks.methods.deepfool import DeepFool
from impure.pipeline.attacks.methods.difgsm import DIFGSM
from impure.pipeline.attacks.methods.fab import FABT
from impure.pipeline.attacks.methods.fgsm import FGSM
from impure.pipeline.attacks.methods.mifgsm import MIFGSM
from impure.pipeline.attacks.methods.pgd import PGD
from impure.pipeline.attacks.methods.square import Square

Params = dict[str, float | int | bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackSpec:
    """One registry line.

    Attributes:
        kind: the attack's class; its fields are the parameters.
        paper: parameters as in the paper; for attacks that it does not use, as first published.
        library: parameters as Torchattacks' own defaults.
        summary: one line for listings.
        source: who published it.
        random: whether it draws, so that a restart is another try.
        targeted: whether it can steer to one class.
    """

    kind: type[Attack]
    paper: Params
    library: Params
    summary: str
    source: str
    random: bool = False
    targeted: bool = True

    def preset(self, name: str) -> Params:
        """Return a preset by its name, one of `attack_names.PRESETS`."""
        presets: Mapping[str, Params] = {"paper": self.paper, "library": self.library}
        return presets[name]


_DIVERSE: Params = {"resize_rate": 0.9, "diversity_prob": 0.5, "random_start": False, "early_stop": False}
_APGD: Params = {"steps": 10, "rho": 0.75, "early_stop": False}
_DEEPFOOL: Params = {"steps": 50, "candidates": 10, "overshoot": 0.02}

ATTACKS: dict[str, AttackSpec] = {
    "fgsm": AttackSpec(
        kind=FGSM,
        paper={},
        library={},
        summary="one signed gradient step of size ε",
        source="Goodfellow 2015, arXiv:1412.6572",
    ),
    "pgd": AttackSpec(
        kind=PGD,
        paper={"steps": 10, "alpha_255": 4.0, "random_start": True, "early_stop": False},
        library={"steps": 10, "alpha_255": 2.0, "random_start": True, "early_stop": False},
        summary="signed gradient steps from a random start",
        source="Madry 2018, arXiv:1706.06083",
        random=True,
    ),
    "mifgsm": AttackSpec(
        kind=MIFGSM,
        paper={"steps": 10, "alpha_255": 4.0, "decay": 1.0, "early_stop": False},
        library={"steps": 10, "alpha_255": 2.0, "decay": 1.0, "early_stop": False},
        summary="signed steps along a momentum of normalised gradients",
        source="Dong 2018, arXiv:1710.06081",
    ),
    "difgsm": AttackSpec(
        kind=DIFGSM,
        paper={"steps": 10, "alpha_255": 4.0, "decay": 0.0, **_DIVERSE},
        library={"steps": 10, "alpha_255": 2.0, "decay": 0.0, **_DIVERSE},
        summary="signed steps on randomly shrunk and padded images",
        source="Xie 2019, arXiv:1803.06978",
        random=True,
    ),
    "mdifgsm": AttackSpec(
        kind=DIFGSM,
        paper={"steps": 10, "alpha_255": 4.0, "decay": 1.0, **_DIVERSE},
        library={"steps": 10, "alpha_255": 2.0, "decay": 1.0, **_DIVERSE},
        summary="input diversity and momentum together",
        source="Xie 2019, arXiv:1803.06978",
        random=True,
    ),
    "apgd-ce": AttackSpec(
        kind=APGDCE,
        paper=_APGD,
        library=_APGD,
        summary="Auto-PGD on the cross-entropy",
        source="Croce & Hein 2020, arXiv:2003.01690",
        random=True,
    ),
    "apgd-dlr": AttackSpec(
        kind=APGDDLR,
        paper=_APGD,
        library=_APGD,
        summary="Auto-PGD on the difference of logits ratio",
        source="Croce & Hein 2020, arXiv:2003.01690",
        random=True,
    ),
    "cw": AttackSpec(
        kind=CW,
        paper={"steps": 50, "search_steps": 5, "lr": 0.01, "c0": 0.1, "kappa": 40.0},
        library={"steps": 50, "search_steps": 1, "lr": 0.01, "c0": 1.0, "kappa": 0.0},
        summary="smallest L2 perturbation by Adam, with a search over c",
        source="Carlini & Wagner 2017, arXiv:1608.04644",
    ),
    "deepfool": AttackSpec(
        kind=DeepFool,
        paper=_DEEPFOOL,
        library=_DEEPFOOL,
        summary="steps to the nearest linearised class boundary, L2",
        source="Moosavi-Dezfooli 2016, arXiv:1511.04599",
        targeted=False,
    ),
    "apgd-t": AttackSpec(
        kind=APGDT,
        paper={"steps": 100, "rho": 0.75, "early_stop": False, "target_classes": 9},
        library={"steps": 10, "rho": 0.75, "early_stop": False, "target_classes": 9},
        summary="Auto-PGD on the targeted DLR, towards the nine likeliest classes in turn",
        source="Croce & Hein 2020, arXiv:2003.01690",
        random=True,
        targeted=False,
    ),
    "fab-t": AttackSpec(
        kind=FABT,
        paper={"steps": 100, "target_classes": 9, "alpha_max": 0.1, "eta": 1.05, "beta": 0.9},
        library={"steps": 10, "target_classes": 9, "alpha_max": 0.1, "eta": 1.05, "beta": 0.9},
        summary="smallest L∞ perturbation across the boundaries to the nine likeliest classes",
        source="Croce & Hein 2020, arXiv:1907.02044",
        targeted=False,
    ),
    "square": AttackSpec(
        kind=Square,
        paper={"queries": 5000, "p_init": 0.8},
        library={"queries": 5000, "p_init": 0.8},
        summary="random search with squares, without gradients",
        source="Andriushchenko 2020, arXiv:1912.00049",
        random=True,
    ),
    "autoattack": AttackSpec(
        kind=AutoAttack,
        paper={"steps": 100, "target_classes": 9, "queries": 5000},
        library={"steps": 10, "target_classes": 9, "queries": 5000},
        summary="the standard ensemble: apgd-ce, apgd-t, fab-t, square",
        source="Croce & Hein 2020, arXiv:2003.01690",
        random=True,
        targeted=False,
    ),
}
