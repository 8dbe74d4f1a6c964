"""What the registry says of an attack: its class, its presets, and who published it."""

from dataclasses import dataclass, field

from impure.pipeline.attacks.attack_names import PRESETS
from impure.pipeline.attacks.engine.threat_model import Attack

Params = dict[str, float | int | bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackSpec:
    """One registered attack.

    Attributes:
        kind: the attack's class; its fields are the parameters.
        paper: parameters as in the paper (section 4.1 and the authors' scripts); for attacks that it does not
            use, as first published.
        library: parameters as Torchattacks' own defaults; as foolbox's for `ddn` and `fmn`, which it lacks.
        release: what the programs that the paper's authors published do otherwise than `paper`.
        cleverhans: what CleverHans' own defaults differ in from `paper`.
        summary: one line for listings.
        source: who published it.
        random: whether it draws random numbers whatever its parameters, so that a restart is another attempt.
        compilable: whether it differentiates each forward pass once, as a compiled target lets it.
        targeted: whether it can steer to one class.
        min_classes: the fewest classes of a target that it can attack.
        min_classes_targeted: the same when it steers to one class.
    """

    kind: type[Attack]
    paper: Params
    library: Params
    summary: str
    source: str
    release: Params = field(default_factory=dict)
    cleverhans: Params = field(default_factory=dict)
    random: bool = False
    compilable: bool = True
    targeted: bool = True
    min_classes: int = 2
    min_classes_targeted: int = 2

    def preset(self, name: str) -> Params:
        """Return a preset's parameters by its name, one of `attack_names.PRESETS`."""
        changes = dict(zip(PRESETS, ({}, self.library, self.release, self.cleverhans), strict=True))
        return self.paper | changes[name]
