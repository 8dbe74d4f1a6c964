"""The configuration of an attack: what a user chooses, validated, and the attack that it builds."""

from dataclasses import dataclass

from impure.manifests.base.errors import InputError
from impure.pipeline.attacks.attack_names import (
    IMPLEMENTATIONS,
    PAPER_EPS_255,
    PRECISIONS,
    PRESETS,
    TARGET_CLASS_CHOICES,
)
from impure.pipeline.attacks.attack_parameters import Value, as_type_of
from impure.pipeline.attacks.attack_registry import ATTACKS, Params
from impure.pipeline.attacks.engine.parameter_checks import at_least
from impure.pipeline.attacks.engine.threat_model import Attack
from impure.pipeline.attacks.references.library_attack import LibraryAttack, Reference
from impure.pipeline.attacks.references.reference_libraries import REFERENCES


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackConfig:
    """An attack with everything that decides its result besides images, target and seed.

    Attributes:
        name: a key of `ATTACKS`.
        eps_255: the L∞ budget in units of 1/255, 1 to 255.
        preset: one of `PRESETS`.
        implementation: "impure", "torchattacks" or "cleverhans".
        overrides: parameters set by hand; kept sorted by name and in the parameter's own type.
        targeted: None for an untargeted attack, else how each image's target class is chosen, one of
            `TARGET_CLASS_CHOICES`.
        restarts: times to run from fresh random draws, each on the images that withstood those before.
        precision: what the proposal is computed in, one of `PRECISIONS`.

    Raises:
        InputError: naming the value that is wrong and what would be right.
    """

    name: str
    eps_255: int = PAPER_EPS_255
    preset: str = "paper"
    implementation: str = "impure"
    overrides: tuple[tuple[str, Value], ...] = ()
    targeted: str | None = None
    restarts: int = 1
    precision: str = "fp32"

    def __post_init__(self) -> None:
        _choose("attack", self.name, tuple(ATTACKS))
        _choose("preset", self.preset, PRESETS)
        _choose("implementation", self.implementation, IMPLEMENTATIONS)
        _choose("precision", self.precision, PRECISIONS)
        at_least("restarts", self.restarts, 1)
        self._check_targeted()
        self._check_restarts()
        if self.implementation != "impure":
            available = tuple(REFERENCES[self.implementation])
            _choose(f"{self.implementation} attack", self.name, available)
        if type(self.eps_255) is not int or not 1 <= self.eps_255 <= 255:
            raise InputError(f"eps_255 must be a whole number from 1 to 255, got {self.eps_255!r}")
        object.__setattr__(self, "overrides", self._typed_overrides())
        # Building once refuses values out of range here, and not hours later in a worker.
        ATTACKS[self.name].kind(**self._all_params())
        self._check_required()

    @property
    def params(self) -> dict[str, Value]:
        """The parameters in force, sorted by name; those that a library does not have are left out."""
        everything = self._all_params()
        return {name: everything[name] for name in sorted(self._names())}

    @property
    def compilable(self) -> bool:
        """Whether it can attack through a compiled target; libraries' programs cannot."""
        return self.implementation == "impure" and ATTACKS[self.name].compilable

    @property
    def ends_early(self) -> bool:
        """Whether images that are fooled leave it, so that nobody knows beforehand how long it takes."""
        params = self.params
        return bool(params.get("early_stop")) or not {"candidates", "target_classes"}.isdisjoint(params)

    @property
    def variant(self) -> str:
        """Name in a collection's paths: the attack's, with what differs from the paper's threat model."""
        budget = "" if self.eps_255 == PAPER_EPS_255 else f"-e{self.eps_255}"
        return f"{self.name}{budget}" + (f"-{self.targeted}" if self.targeted else "")

    @property
    def key(self) -> str:
        """Short name in samples' keys: always with the budget, and the initial of `targeted`."""
        return f"{self.name}-e{self.eps_255}" + (f"-{self.targeted[0]}" if self.targeted else "")

    def check_classes(self, count: int) -> None:
        """Refuse a target with too few classes before the run, not when the attack's loss needs one more.

        Raises:
            InputError: naming the attack and how many classes it needs.
        """
        spec = ATTACKS[self.name]
        needed = spec.min_classes_targeted if self.targeted else spec.min_classes
        if count < needed:
            raise InputError(
                f"{self.variant} needs a target of {needed} classes or more, this one has {count}"
            )

    def record(self) -> dict[str, Value | str]:
        """Return what a manifest's rows say of the run, besides name, preset, implementation and budget."""
        everything = {
            **self.params,
            "precision": self.precision,
            "restarts": self.restarts,
            "targeted": self.targeted or "",
        }
        return dict(sorted(everything.items()))

    def build(self) -> Attack:
        """Return the attack, ready to run."""
        reference = self._reference()
        if reference is None:
            return ATTACKS[self.name].kind(**self.params)
        return LibraryAttack(reference=reference, params=self.params)

    def _reference(self) -> Reference | None:
        return REFERENCES.get(self.implementation, {}).get(self.name)

    def _names(self) -> tuple[str, ...]:
        reference = self._reference()
        return tuple(ATTACKS[self.name].preset(self.preset)) if reference is None else reference.parameters

    def _all_params(self) -> Params:
        return ATTACKS[self.name].preset(self.preset) | dict(self.overrides)

    def _typed_overrides(self) -> tuple[tuple[str, Value], ...]:
        preset = ATTACKS[self.name].preset(self.preset)
        names = self._names()
        typed: dict[str, Value] = {}
        for name, value in self.overrides:
            _choose(f"parameter of {self.implementation} {self.name}", name, tuple(sorted(names)))
            if name in typed:
                raise InputError(f"parameter {name} of {self.name} is set twice")
            typed[name] = as_type_of(name, value, type(preset[name]))
        return tuple(sorted(typed.items()))

    def _check_targeted(self) -> None:
        """Refuse a target class for attacks without a targeted form."""
        if self.targeted is None:
            return
        _choose("choice of targeted classes", self.targeted, TARGET_CLASS_CHOICES)
        if self.implementation != "impure" or not ATTACKS[self.name].targeted:
            able = ", ".join(name for name, spec in ATTACKS.items() if spec.targeted)
            raise InputError(
                f"{self.implementation} {self.name} has no targeted form; these of impure have: {able}"
            )

    def _check_restarts(self) -> None:
        """Refuse restarts of attacks that draw nothing: they would repeat the first run."""
        draws = ATTACKS[self.name].random or self._all_params().get("random_start", False)
        if self.restarts > 1 and not draws:
            able = ", ".join(name for name, spec in ATTACKS.items() if spec.random)
            raise InputError(f"{self.name} draws nothing: restarts would repeat it; these draw: {able}")

    def _check_required(self) -> None:
        """Refuse parameters with which a library would run another attack than the one asked for."""
        reference = self._reference()
        params = self._all_params()
        for name, value in (reference.required if reference else {}).items():
            if params[name] != value:
                raise InputError(
                    f"{self.implementation} {self.name} knows no {name}, and preset {self.preset} "
                    f"asks for {name}={params[name]}; use preset library or another implementation"
                )


def _choose(what: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"unknown {what} {value!r}; choose from: {', '.join(allowed) or '(none)'}")
