"""A leaderboard out of the documents of evaluations: one entry a defence, target and budget."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean
from typing import Any, NamedTuple

from impure.manifests.base.errors import InputError
from impure.manifests.base.tables import markdown_table
from impure.manifests.collection.shard_id import CLEAN
from impure.pipeline.attacks.attack_names import PAPER_EPS_255
from impure.purifier.defences.defence_registry import DEFENCES
from impure.purifier.evaluation.reports.adaptive_records import (
    AttackedSubject,
    AttackLine,
    attacked_subjects,
)
from impure.purifier.evaluation.reports.document_section import read_row
from impure.purifier.evaluation.reports.documents import NAME, TABLES, Document, as_text, records_of
from impure.purifier.evaluation.scores import Row
from impure.purifier.evaluation.tables.leaderboard_entry import Entry

CHOSEN = "Of images that the bare target classifies correctly."
FAILED = "Checks failed, so that the attack may be too weak: {}."
STORED = "Measured on stored attacks alone, whose maker did not know the defence."
AUTOATTACK = "autoattack"
NO_WEIGHTS = hashlib.sha256().hexdigest()  # of a defence that has none
HEADER = ("rank", "defence", "target", "worst", "vote", "mean", "noise", "clean", "black-box", "n", "checks")


class _Key(NamedTuple):
    """What there is one entry of: networks of one name are the same where their weights are."""

    dataset: str
    eps: int
    target: str
    defence: str
    target_sha256: str
    defence_sha256: str


class _Attacked(NamedTuple):
    """What was measured by attacks through the defence, under all of one budget."""

    subject: AttackedSubject
    line: AttackLine
    where: str


@dataclass(slots=True)
class _Measured:
    """All that documents say of an entry."""

    attacked: list[_Attacked] = field(default_factory=list)
    stored: dict[str, Row] = field(default_factory=dict)
    where: list[str] = field(default_factory=list)


def leaderboard(documents: Sequence[Document]) -> tuple[list[Entry], list[str]]:
    """The entries of all documents: league by league, the best first, broken and unattacked ones at the end.

    Where several documents attack through one defence, the lowest worst-case accuracy counts: an attack shows
    no more than an upper bound.

    Args:
        documents: Adaptive evaluations, and accuracies on stored attacks; others are passed over.

    Returns:
        The entries, and a line for each document that is not what it has to be.
    """
    measured: dict[_Key, _Measured] = {}
    complaints = []
    for document in documents:
        try:
            _add(measured, document)
        except InputError as error:
            complaints.append(f"{document.where}: {error}")
    return _ranked(_entry(key, of_key) for key, of_key in measured.items()), complaints


def _add(measured: dict[_Key, _Measured], document: Document) -> None:
    """Add what a document says, unless it is about something else.

    Raises:
        InputError: It is not what it has to be.
    """
    if document.kind == "adaptive":
        _add_attacked(measured, document)
    elif document.kind in TABLES:
        _add_stored(measured, document)


def _add_attacked(measured: dict[_Key, _Measured], document: Document) -> None:
    """Add what an adaptive evaluation says."""
    for subject in attacked_subjects(document.content):
        for line in subject.totals:
            key = _Key(_images(document), line.eps, subject.target, subject.defence, *subject.weights)
            of_key = measured.setdefault(key, _Measured())
            of_key.attacked.append(_Attacked(subject, line, document.where))


def _add_stored(measured: dict[_Key, _Measured], document: Document) -> None:
    """Add what was measured on stored attacks; of several measurements of one attack the first counts."""
    weights = _weights(document)
    for row in map(read_row, records_of(document.content, "rows")):
        if row.attack != CLEAN:
            digests = (weights.get(row.target, ""), weights.get(row.defence, NO_WEIGHTS))
            key = _Key(_images(document), eps_of(row.attack), row.target, row.label, *digests)
            of_key = measured.setdefault(key, _Measured())
            of_key.stored.setdefault(row.attack, row)
            of_key.where = list(dict.fromkeys([*of_key.where, document.where]))


def _images(document: Document) -> str:
    """Which images a document is about."""
    return document.conditions.get("images", "unknown images")


def _weights(document: Document) -> dict[str, str]:
    """The digests of weights that a document's conditions name."""
    content = document.content.get("conditions", {}).get("weights_sha256", [])
    named = [as_text(text, NAME).rpartition(": ") for text in content] if isinstance(content, list) else []
    return {name: sha256 for name, _, sha256 in named}


def eps_of(attack: str) -> int:
    """The budget in the name of a stored attack, in units of 1/255: 8 of pgd-e8."""
    budget = re.search(r"-e(\d{1,3})(?=-|$)", attack)
    return int(budget[1]) if budget else PAPER_EPS_255


def _entry(key: _Key, measured: _Measured) -> Entry:
    """The entry of all that was measured."""
    name = re.split("[: (]", key.defence)[0]
    stored = [row.accuracy for row in measured.stored.values()]
    entry = Entry(
        name=name,
        link=_link(name),
        dataset=key.dataset,
        architecture=key.target if name == "none" else f"{key.defence} + {key.target}",
        eps=f"{key.eps}/255",
        footnote=f"{CHOSEN} {STORED}",
        defence=key.defence,
        target=key.target,
        black_box_acc=_per_cent(fmean(stored) if stored else None),
        black_box_attacks=tuple(measured.stored),
        target_sha256=key.target_sha256,
        defence_sha256=None if key.defence_sha256 == NO_WEIGHTS else key.defence_sha256,
        documents=tuple(measured.where),
    )
    if not measured.attacked:
        return entry
    return _with_attacks(
        entry, min(measured.attacked, key=lambda attacked: attacked.line.attacked["worst"].rate)
    )


def _with_attacks(entry: Entry, attacked: _Attacked) -> Entry:
    """The entry with what attacks through the defence left."""
    subject, line, where = attacked
    failed = tuple(check.name for check in subject.checks if not check.passed)
    warning = f" {FAILED.format(', '.join(failed) or 'there were none')}" if subject.is_broken else ""
    same = [other for other in subject.attacks if (other.eps, other.samples) == (line.eps, line.samples)]
    strong = [other for other in same if other.attack.startswith(AUTOATTACK)]
    worst = line.attacked["worst"]
    return replace(
        entry,
        clean_acc=_text(line.clean.get("mean")),
        autoattack_acc=_text(min((other.attacked["mean"].rate for other in strong), default=None)),
        unreliable=subject.is_broken,
        footnote=CHOSEN + warning,
        n=line.n,
        samples=line.samples,
        mean_acc=_per_cent(line.attacked["mean"].rate),
        worst_acc=_per_cent(line.attacked["worst"].rate),
        vote_acc=_per_cent(line.attacked["vote"].rate),
        worst_interval=(round(100 * worst.low, 2), round(100 * worst.high, 2)),
        clean_worst_acc=_per_cent(line.clean.get("worst")),
        clean_vote_acc=_per_cent(line.clean.get("vote")),
        noise_mean_acc=_per_cent(line.noise.get("mean")),
        noise_worst_acc=_per_cent(line.noise.get("worst")),
        noise_vote_acc=_per_cent(line.noise.get("vote")),
        attacks=tuple(other.attack for other in same),
        checks_failed=failed,
        documents=(where, *entry.documents),
    )


def _link(name: str) -> str | None:
    """The address of a defence's paper, where its source names it by its number in arXiv."""
    source = DEFENCES[name].kind.source if name in DEFENCES else ""
    paper = re.search(r"arXiv:(\d{4}\.\d{4,5})", source)
    return f"https://arxiv.org/abs/{paper[1]}" if paper else None


def _per_cent(share: float | None) -> float | None:
    """A share in per cent."""
    return None if share is None else round(100 * share, 2)


def _text(share: float | None) -> str | None:
    """A share as RobustBench writes accuracies."""
    return None if share is None else f"{100 * share:.2f}"


def _ranked(entries: Iterable[Entry]) -> list[Entry]:
    """The entries in their order, with ranks; equal accuracies share one."""
    ordered = sorted(entries, key=_place)
    return [
        replace(entry, rank=1 + sum(_beats(other, entry) for other in ordered)) if entry.is_sound else entry
        for entry in ordered
    ]


def _place(entry: Entry) -> tuple[object, ...]:
    """What entries are sorted by."""
    dataset, eps = entry.league
    worst = -1.0 if entry.worst_acc is None else entry.worst_acc
    return (dataset, int(eps.partition("/")[0]), not entry.is_sound, -worst, entry.target, entry.defence)


def _beats(one: Entry, other: Entry) -> bool:
    """Whether an entry stands before another of its league."""
    same = one.is_sound and one.league == other.league
    return same and (one.worst_acc or 0.0) > (other.worst_acc or 0.0)


def leaderboard_document(entries: Sequence[Entry], conditions: dict[str, Any]) -> dict[str, Any]:
    """The entries for programs."""
    return {"kind": "leaderboard", "conditions": conditions, "rows": [asdict(entry) for entry in entries]}


def leaderboard_table(entries: Sequence[Entry]) -> str:
    """A table for each league: Markdown."""
    leagues = dict.fromkeys(entry.league for entry in entries)
    return "\n\n".join(
        f"{dataset}, L∞ ≤ {eps}\n\n"
        + markdown_table(HEADER, [_line(entry) for entry in entries if entry.league == (dataset, eps)])
        for dataset, eps in leagues
    )


def _line(entry: Entry) -> list[str]:
    """A line of the table."""
    shares = (entry.worst_acc, entry.vote_acc, entry.mean_acc, entry.noise_mean_acc)
    checks = {None: "–", True: f"✗ {len(entry.checks_failed)} failed", False: "pass"}[entry.unreliable]
    return [
        "–" if entry.rank is None else str(entry.rank),
        entry.defence,
        entry.target,
        *("–" if share is None else f"{share:.1f}" for share in shares),
        "–" if entry.clean_acc is None else f"{float(entry.clean_acc):.1f}",
        "–" if entry.black_box_acc is None else f"{entry.black_box_acc:.1f}",
        "–" if entry.n is None else str(entry.n),
        checks,
    ]
