"""How an adaptive evaluation attacks: its presets, and what has to be known to read its numbers; no torch."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from impure.manifests.base.errors import InputError

Knowledge = Literal["none", "blind", "straight-through", "full", "draws"]
"""What the attacker uses: nothing (controls), the bare target, the defence's output with the identity's
gradient, exact gradients through defence and target, or these and the very draws of the verdict."""

CLEAN = "clean"  # control: the untouched images
NOISE = "noise"  # control: random signs of the budget's size
CONTROLS = (CLEAN, NOISE)

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"attacks": ("pgd-ce",), "steps": 20, "eot": 5, "images": 200, "samples": (5,)},
    "standard": {
        "attacks": ("pgd-ce", "pgd-dlr", "pgd-margin", "apgd-ce", "apgd-dlr", "apgd-margin"),
        "steps": 100,
        "eot": 20,
        "images": 512,
        "samples": (10,),
    },
    "paper": {
        "attacks": ("pgd-ce", "pgd-dlr", "pgd-margin", "apgd-ce", "apgd-dlr", "square"),
        "steps": 200,
        "eot": 20,
        "restarts": 3,
        "images": 512,
        "samples": (10, 128),
        "transfers": True,
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveConfig:
    """An adaptive evaluation.

    Attributes:
        attacks: Through the defence, keys of `ATTACKS`.
        eps: L∞ budgets in units of 1/255; both 4, where robust classifiers stand, and 16, the paper's.
        steps: Of each attack that takes any; Square asks `QUERIES_A_STEP` times as often.
        eot: How often a random defence is asked for each gradient; a deterministic one once.
        restarts: Runs from fresh starts, each on the images that withstood those before.
        images: At most so many of each target, evenly from its classes.
        samples: Fresh draws of a random defence for the verdict; each number is a row of its own.
        transfers: Whether every attack is also made on the bare target alone, and not the first one only.
        probe: Images of curves and checks, the first of the evaluated ones.
        batch_size: Images at a time, on which the defence's draws depend.
        seed: Of starts and draws.

    Raises:
        InputError: A value is impossible; the message names it.
    """

    attacks: tuple[str, ...] = PRESETS["quick"]["attacks"]
    eps: tuple[int, ...] = (4, 16)
    steps: int = PRESETS["quick"]["steps"]
    eot: int = PRESETS["quick"]["eot"]
    restarts: int = 1
    images: int = PRESETS["quick"]["images"]
    samples: tuple[int, ...] = PRESETS["quick"]["samples"]
    transfers: bool = False
    probe: int = 64
    batch_size: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "eot", "restarts", "images", "probe", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"adaptive: {name} is {getattr(self, name)}; it must be at least 1")
        if not self.attacks or not self.eps:
            raise InputError("adaptive: nothing to attack with; give at least one attack and one eps")
        if not self.samples or min(self.samples) < 1:
            raise InputError("adaptive: a verdict needs at least one draw; give samples such as 10")
        if bad := [eps for eps in self.eps if not 1 <= eps <= 255]:
            raise InputError(f"adaptive: eps is {bad[0]}; it must be from 1 to 255, in units of 1/255")

    @classmethod
    def preset(cls, name: str, **values: Any) -> "AdaptiveConfig":
        """A preset with some values changed.

        Raises:
            InputError: There is no such preset, or a value is impossible.
        """
        if name not in PRESETS:
            raise InputError(f"adaptive: no preset {name!r}; choose from {', '.join(PRESETS)}")
        return cls(**{**PRESETS[name], **values})


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One attack on one target behind one defence: what a row of results is.

    Attributes:
        target: Its name in the shards.
        defence: Its column.
        knowledge: Of the attacker.
        attack: A key of `ATTACKS`, or a control.
        eps: L∞ budget in units of 1/255; 0 for clean images.
        steps: Of the attack; 0 where it takes none.
        eot: Of each gradient.
        restarts: Of the attack.
        images: The first so many of the evaluated ones.
        samples: Draws that were made for the verdict; rows may count the first of them alone.
        seed: Of starts and draws.
        batch_size: On which draws depend.
        weights: SHA-256 of the defence's weights and settings and the target's weights, which no row may
            outlive.
        pixels: SHA-256 of the images.
    """

    target: str
    defence: str
    knowledge: Knowledge
    attack: str
    eps: int
    steps: int
    eot: int
    restarts: int
    images: int
    samples: int
    seed: int
    batch_size: int
    weights: str
    pixels: str

    def __post_init__(self) -> None:
        if self.knowledge not in get_args(Knowledge):
            raise InputError(f"adaptive: knowledge {self.knowledge!r} is unknown")

    @property
    def label(self) -> str:
        """Its name for people."""
        return attack_label(self.attack, self.eps, self.knowledge)


def attack_label(attack: str, eps: int, knowledge: str) -> str:
    """An attack's name for people: with its budget, and what the attacker knows where that is not usual."""
    budget = f" {eps}/255" if eps else ""
    how = "" if knowledge in ("none", "full") else f" ({knowledge})"
    return f"{attack}{budget}{how}"
