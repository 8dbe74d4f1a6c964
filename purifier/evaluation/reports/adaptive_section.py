"""An adaptive evaluation as parts of a page: the verdicts beside clean images and noise, and the checks."""

from collections.abc import Sequence

from impure.purifier.evaluation.adaptive.adaptive_config import CLEAN, CONTROLS, NOISE
from impure.purifier.evaluation.reports.adaptive_records import (
    VERDICTS,
    AttackedSubject,
    AttackLine,
    Share,
    attacked_subjects,
)
from impure.purifier.evaluation.reports.documents import Document, as_text, number
from impure.purifier.evaluation.reports.page import Bar, Bars, Block, Cell, Section, Table

LEAD = (
    "Accuracy in per cent with Wilson's 95 % interval under attacks computed through defence and target. "
    "Mean: of fresh draws; worst: images right in every draw; vote: images whose majority of draws is right. "
    "Read each beside untouched images and noise of the same size under the same verdict."
)
BROKEN = "A check failed: these numbers say nothing about the defence."
COSTS = {"grad_evals": "gradients", "seconds": "seconds"}  # of an image, by the record's name


def adaptive_section(document: Document, title: str) -> Section:
    """A block that sums up, and one for each defence before each target.

    Raises:
        InputError: The document is not what it has to be.
    """
    subjects = attacked_subjects(document.content)
    return Section(title=title, lead=LEAD, blocks=[_summary(subjects), *map(_block, subjects)], conditions={})


def _summary(subjects: Sequence[AttackedSubject]) -> Block:
    """All defences under all attacks of each budget, beside clean images and noise."""
    groups = ("all attacks", NOISE, CLEAN)
    header = [
        "defence",
        "target",
        "ε",
        "draws",
        "n",
        *(f"{of}: {verdict}" for of in groups for verdict in VERDICTS),
    ]
    lines = [_total(subject, line) for subject in subjects for line in subject.totals]
    tables = [Table(caption="All defences under all attacks", header=header, rows=lines)] if lines else []
    return Block(title="All attacks together", tables=tables)


def _total(subject: AttackedSubject, line: AttackLine) -> list[Cell]:
    """The least of all attacks on one defence, beside the controls."""
    beside = [line, subject.control(NOISE, line), subject.control(CLEAN, line)]
    return [
        Cell(subject.defence + (" ✗ check failed" if subject.is_broken else "")),
        Cell(subject.target),
        *_budget(line),
        *(_cell(other.verdicts[verdict]) if other else Cell("–") for other in beside for verdict in VERDICTS),
    ]


def _budget(line: AttackLine) -> list[Cell]:
    """How an attack's verdict came about."""
    eps = Cell(f"{line.eps}/255" if line.eps else "–", sort=line.eps)
    return [eps, Cell(str(line.samples), sort=line.samples), Cell(str(line.n), sort=line.n)]


def _block(subject: AttackedSubject) -> Block:
    """One defence before one target."""
    name = f"{subject.defence} before {subject.target}"
    header = ["attack", "knowledge", *VERDICTS, "ε", "draws", "n", "steps × EOT", *COSTS.values()]
    bars = [
        (line.label, [_bar(verdict, line.verdicts[verdict]) for verdict in VERDICTS])
        for line in subject.lines
    ]
    table = Table(
        caption=f"Attacks through {name}", header=header, rows=[_row(line) for line in subject.lines]
    )
    return Block(
        title=name,
        warning=BROKEN if subject.is_broken else "",
        tables=[table],
        bars=Bars(labels=VERDICTS, groups=bars),
        checks=subject.checks,
    )


def _row(line: AttackLine) -> list[Cell]:
    """A row of the table."""
    steps, eot = (as_text(line.record.get(name), 20) for name in ("steps", "eot"))
    return [
        Cell(line.attack),
        Cell("–" if line.attack in CONTROLS else line.knowledge),
        *(_cell(line.verdicts[verdict]) for verdict in VERDICTS),
        *_budget(line),
        Cell(f"{steps} × {eot}" if line.record.get("steps") else "–"),
        *(Cell(as_text(line.record.get(name), 20), sort=number(line.record, name)) for name in COSTS),
    ]


def _cell(share: Share) -> Cell:
    """An accuracy in per cent."""
    return Cell(f"{100 * share.rate:.1f}", f"{100 * share.low:.1f}–{100 * share.high:.1f}", share.rate)


def _bar(label: str, share: Share) -> Bar:
    """An accuracy as a bar."""
    return Bar(label, 100 * share.rate, 100 * share.low, 100 * share.high)
