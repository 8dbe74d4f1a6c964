"""An adaptive evaluation as parts of a page: the verdicts beside clean images and noise, and the checks."""

from collections.abc import Mapping, Sequence

from impure.purifier.evaluation.adaptive.adaptive_config import CONTROLS
from impure.purifier.evaluation.reports.adaptive_records import (
    VERDICTS,
    AttackedSubject,
    AttackLine,
    Share,
    attacked_subjects,
)
from impure.purifier.evaluation.reports.documents import Document, as_text, number
from impure.purifier.evaluation.reports.page import Bar, Bars, Block, Cell, Section, Table, per_cent

LEAD = (
    "Accuracy in per cent with Wilson's 95 % interval under attacks computed through defence and target. "
    "Mean: of fresh draws; worst: images right in every draw; vote: images whose majority of draws is right. "
    "Read each beside untouched images and noise of the same size under the same verdict."
)
BROKEN = "A check failed: these numbers say nothing about the defence."
MOST_PUBLISHED = 50


def adaptive_section(document: Document, title: str) -> Section:
    """A block that sums up, one for each defence before each target, and what others measured.

    Raises:
        InputError: The document is not what it has to be.
    """
    subjects = attacked_subjects(document.content)
    blocks = [_summary(subjects), *map(_block, subjects), *_published(document.content.get("published"))]
    return Section(title=title, lead=LEAD, blocks=blocks, conditions={})


def _summary(subjects: Sequence[AttackedSubject]) -> Block:
    """All defences under all attacks of each budget, beside clean images and noise."""
    groups = ("all attacks", "noise", "clean")
    columns = [f"{group}: {verdict}" for group in groups for verdict in VERDICTS]
    table = Table(
        caption="All defences under all attacks",
        header=["defence", "target", "ε", "draws", "n", *columns],
        rows=[_total(subject, line) for subject in subjects for line in subject.totals],
    )
    return Block(title="All attacks together", tables=[table])


def _total(subject: AttackedSubject, line: AttackLine) -> list[Cell]:
    """The least of all attacks on one defence, beside the controls."""
    return [
        Cell(subject.defence + (" ✗ check failed" if subject.is_broken else "")),
        Cell(subject.target),
        *_how(line),
        *_verdicts(line),
        *(per_cent(control.get(verdict)) for control in (line.noise, line.clean) for verdict in VERDICTS),
    ]


def _how(line: AttackLine) -> list[Cell]:
    """How an attack's verdict came about."""
    eps = Cell(f"{line.eps}/255" if line.eps else "–", sort=line.eps)
    return [eps, Cell(str(line.samples), sort=line.samples), Cell(str(line.n), sort=line.n)]


def _verdicts(line: AttackLine) -> list[Cell]:
    """The three accuracies under an attack, with their intervals."""
    shares = [line.attacked[verdict] for verdict in VERDICTS]
    return [per_cent(share.rate, f"{100 * share.low:.1f}–{100 * share.high:.1f}") for share in shares]


def _block(subject: AttackedSubject) -> Block:
    """One defence before one target."""
    name = f"{subject.defence} before {subject.target}"
    header = [
        "attack", "knowledge", *VERDICTS, "noise", "clean", "ε", "draws", "n", "steps × EOT × restarts",
        "converged", "gradients", "GFLOP", "seconds",
    ]  # fmt: skip
    table = Table(
        caption=f"Attacks through {name}", header=header, rows=[_row(line) for line in subject.lines]
    )
    bars = [
        (line.label, [_bar(verdict, line.attacked[verdict]) for verdict in VERDICTS])
        for line in subject.lines
    ]
    return Block(
        title=name,
        warning=BROKEN if subject.is_broken else "",
        tables=[table],
        bars=Bars(labels=VERDICTS, groups=bars),
        checks=subject.checks,
    )


def _row(line: AttackLine) -> list[Cell]:
    """A row of the table; costs are of one image."""
    record = line.record
    effort = " × ".join(as_text(record.get(name), 20) for name in ("steps", "eot", "restarts"))
    flop = number(record, "flop")
    return [
        Cell(line.attack),
        Cell("–" if line.attack in CONTROLS else line.knowledge),
        *_verdicts(line),
        *(per_cent(control.get("mean"), _others(control)) for control in (line.noise, line.clean)),
        *_how(line),
        Cell(effort if record.get("steps") else "–"),
        Cell(as_text(record.get("converged"), 20)),
        _number(number(record, "grad_evals")),
        _number(None if flop is None else flop / 1e9),
        _number(number(record, "seconds")),
    ]


def _others(control: Mapping[str, float]) -> str:
    """The other two verdicts on a control, below the mean."""
    return " / ".join(f"{100 * control[verdict]:.1f}" for verdict in VERDICTS[1:] if verdict in control)


def _number(value: float | None) -> Cell:
    """A cost, without digits that say nothing."""
    if value is None:
        return Cell("–")
    return Cell("<0.001" if 0 < value < 1e-3 else f"{value:.3g}", sort=value)


def _bar(label: str, share: Share) -> Bar:
    """An accuracy as a bar."""
    return Bar(label, 100 * share.rate, 100 * share.low, 100 * share.high)


def _published(lines: object) -> list[Block]:
    """What others measured, where the document tells it."""
    if not isinstance(lines, list) or not lines:
        return []
    rows = [[Cell(as_text(line, 500))] for line in lines[:MOST_PUBLISHED]]
    return [Block(tables=[Table(caption="Measured by others", header=["published"], rows=rows, folded=True)])]
