"""What an adaptive evaluation's document says, checked: attacks with their verdicts, and checks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from impure.manifests.base.errors import InputError
from impure.purifier.evaluation.adaptive.adaptive_config import CLEAN, CONTROLS
from impure.purifier.evaluation.adaptive.adaptive_scores import ALL
from impure.purifier.evaluation.reports.documents import NAME, as_text, count_of, records_of
from impure.purifier.evaluation.reports.page import CheckLine

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
        verdicts: Under the attack.
        record: The rest.
    """

    attack: str
    eps: int
    knowledge: str
    samples: int
    n: int
    verdicts: Mapping[str, Share]
    record: Record

    @property
    def label(self) -> str:
        """Its name for people."""
        budget = f" {self.eps}/255" if self.eps else ""
        how = "" if self.knowledge in ("none", "full") else f" ({self.knowledge})"
        return f"{self.attack}{budget}{how}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackedSubject:
    """One defence before one target."""

    defence: str
    target: str
    lines: Sequence[AttackLine]
    checks: Sequence[CheckLine]

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

    def control(self, name: str, line: AttackLine) -> AttackLine | None:
        """Clean images, or noise of an attack's size, under the same verdict as the attack."""
        eps = 0 if name == CLEAN else line.eps
        same = (
            other
            for other in self.lines
            if (other.attack, other.eps, other.samples) == (name, eps, line.samples)
        )
        return next(same, None)


def attacked_subjects(content: Record) -> list[AttackedSubject]:
    """What a document says of each defence before each target.

    Raises:
        InputError: Something is not what it has to be.
    """
    return [
        AttackedSubject(
            defence=as_text(subject.get("defence"), NAME),
            target=as_text(subject.get("target"), NAME),
            lines=[_line(row) for row in records_of(subject, "rows")],
            checks=[_check(check) for check in records_of(subject, "checks")],
        )
        for subject in records_of(content, "defences")
    ]


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
        verdicts={verdict: _share(record, verdict) for verdict in VERDICTS},
        record=record,
    )


def _share(record: Record, verdict: str) -> Share:
    """A verdict with its interval.

    Raises:
        InputError: One of the three numbers is none from 0 to 1.
    """
    interval = record.get(f"{verdict}_interval")
    values = [record.get(verdict), *(interval if isinstance(interval, list) else [])]
    if len(values) != 3 or not all(is_share(value) for value in values):
        raise InputError(f"a row's {verdict} and {verdict}_interval are no numbers from 0 to 1")
    return Share(*values)


def is_share(value: Any) -> bool:
    """Whether something is a number from 0 to 1."""
    return type(value) in (int, float) and 0 <= value <= 1
