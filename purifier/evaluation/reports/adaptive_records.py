"""What an adaptive evaluation's document says, checked: attacks with their verdicts, and checks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from impure.manifests.base.errors import InputError
from impure.purifier.evaluation.adaptive.adaptive_config import CLEAN, CONTROLS, NOISE, attack_label
from impure.purifier.evaluation.adaptive.adaptive_scores import ALL
from impure.purifier.evaluation.reports.documents import NAME, as_text, count_of, records_of
from impure.purifier.evaluation.reports.page import CheckLine

MAX_ROWS = 5000
VERDICTS = ("mean", "worst", "vote")

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Share:
    """An accuracy with its interval, from 0 to 1."""

    rate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackLine:
    """One attack, with the verdicts by name.

    Attributes:
        attack: Its name.
        eps: L∞ budget in units of 1/255; 0 for clean images.
        knowledge: Of the attacker.
        samples: Draws of a verdict.
        n: Images.
        attacked: Accuracies under the attack.
        clean: Accuracies of untouched images; empty where they are not told.
        noise: Accuracies of random noise of the attack's size; likewise.
        record: The rest.
    """

    attack: str
    eps: int
    knowledge: str
    samples: int
    n: int
    attacked: Mapping[str, Share]
    clean: Mapping[str, float]
    noise: Mapping[str, float]
    record: Record

    @property
    def label(self) -> str:
        """Its name for people."""
        return attack_label(self.attack, self.eps, self.knowledge)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackedSubject:
    """One defence before one target."""

    defence: str
    target: str
    lines: Sequence[AttackLine]
    checks: Sequence[CheckLine]

    @property
    def weights(self) -> tuple[str, str]:
        """SHA-256 of the target's and of the defence's weights, as the first row has them."""
        record = self.lines[0].record if self.lines else {}
        return as_text(record.get("target_weights"), NAME), as_text(record.get("defence_weights"), NAME)

    @property
    def is_broken(self) -> bool:
        """Whether a check failed; an attack that nobody checked counts as well."""
        return not self.checks or not all(check.passed for check in self.checks)

    @property
    def totals(self) -> list[AttackLine]:
        """The least of all attacks, for each budget and number of draws."""
        return [line for line in self.lines if line.attack == ALL]

    @property
    def attacks(self) -> list[AttackLine]:
        """Those by who knows the defence."""
        return [
            line for line in self.lines if line.attack not in (ALL, *CONTROLS) and line.knowledge == "full"
        ]


def attacked_subjects(content: Record) -> list[AttackedSubject]:
    """What a document says of each defence before each target.

    Raises:
        InputError: Something is not what it has to be.
    """
    rows = records_of(content, "rows")
    if len(rows) > MAX_ROWS:
        raise InputError(f"it has more than {MAX_ROWS} rows")
    lines: dict[tuple[str, str], list[AttackLine]] = {}
    for record in rows:
        lines.setdefault(_names(record), []).append(_line(record))
    checks = {_names(subject): records_of(subject, "checks") for subject in records_of(content, "defences")}
    return [
        AttackedSubject(
            defence=defence,
            target=target,
            lines=lines.get((defence, target), []),
            checks=[_check(check) for check in checks.get((defence, target), [])],
        )
        for defence, target in dict.fromkeys([*checks, *lines])
    ]


def _names(record: Record) -> tuple[str, str]:
    """A defence and a target."""
    return as_text(record.get("defence"), NAME), as_text(record.get("target"), NAME)


def _check(record: Record) -> CheckLine:
    """A check."""
    name, detail = as_text(record.get("name"), NAME), as_text(record.get("detail"), 500)
    return CheckLine(name, record.get("passed") is True, detail)


def _line(record: Record) -> AttackLine:
    """A row.

    Raises:
        InputError: A count or a share is none.
    """
    return AttackLine(
        attack=as_text(record.get("attack"), NAME),
        knowledge=as_text(record.get("knowledge"), NAME),
        eps=count_of(record, "eps"),
        samples=count_of(record, "samples"),
        n=count_of(record, "n"),
        attacked={verdict: _share(record, verdict) for verdict in VERDICTS},
        clean=_controls(record, CLEAN),
        noise=_controls(record, NOISE),
        record=record,
    )


def _share(record: Record, verdict: str) -> Share:
    """A verdict with its interval.

    Raises:
        InputError: One of the three numbers is none from 0 to 1.
    """
    values = [record.get(name) for name in (verdict, f"{verdict}_low", f"{verdict}_high")]
    shares = [value for value in values if _is_share(value)]
    if len(shares) < len(values):
        raise InputError(f"a row's {verdict}, {verdict}_low and {verdict}_high are no numbers from 0 to 1")
    return Share(*shares)


def _controls(record: Record, name: str) -> dict[str, float]:
    """The verdicts on images that nobody attacked, as far as they are told."""
    values = {verdict: record.get(f"{name}_{verdict}") for verdict in VERDICTS}
    return {verdict: value for verdict, value in values.items() if _is_share(value)}


def _is_share(value: Any) -> TypeGuard[float]:
    """Whether something is a number from 0 to 1."""
    return type(value) in (int, float) and 0 <= value <= 1
