"""The leaderboard: who is ranked, what is null, and which measurements belong together."""

from pathlib import Path
from typing import Any

import pytest

from impure.purifier.evaluation.reports.documents import Document
from impure.purifier.evaluation.tables.leaderboard import eps_of, leaderboard, leaderboard_table
from tests.purifier.evaluation.reports.documents_of_tests import (
    adaptive,
    adaptive_row,
    conditions,
    stored_row,
    subject,
    table1,
)

#: As in the files of RobustBench's model_info folder.
ROBUSTBENCH = {
    "link", "name", "authors", "additional_data", "number_forward_passes", "dataset", "venue", "architecture",
    "eps", "clean_acc", "reported", "autoattack_acc", "footnote", "unreliable",
}  # fmt: skip


def document(content: dict[str, Any], where: str = "runs/x.json") -> Document:
    return Document(path=Path(where), where=where, kind=content["kind"], content=content)


def test_an_entry_joins_what_was_measured_of_the_same_weights() -> None:
    entries, _ = leaderboard([document(table1()), document(adaptive(), "runs/adaptive.json")])
    entry = next(entry for entry in entries if entry.worst_acc is not None)
    others = [other for other in entries if other is not entry]
    assert set(entry.__dataclass_fields__) >= ROBUSTBENCH
    assert (entry.defence, entry.target, entry.eps, entry.rank) == ("riae", "toy", "16/255", 1)
    assert (entry.clean_acc, entry.mean_acc, entry.worst_acc, entry.vote_acc) == ("90.00", 25.0, 20.0, 30.0)
    assert (entry.noise_mean_acc, entry.clean_worst_acc) == (80.0, 90.0)
    assert (entry.black_box_acc, entry.black_box_attacks) == (70.0, ("pgd",))
    assert entry.link == "https://arxiv.org/abs/2311.15339" and entry.architecture == "riae + toy"
    assert (entry.target_sha256, entry.defence_sha256) == ("a" * 64, "b" * 64)
    assert entry.documents == ("runs/adaptive.json", "runs/x.json")
    assert [entry.autoattack_acc, entry.reported, entry.authors, entry.venue] == [None] * 4
    assert {(other.defence, other.eps) for other in others} == {("riae", "4/255"), ("none", "16/255")}
    assert all(other.rank is other.worst_acc is other.unreliable is None for other in others)


def test_other_weights_are_another_entry() -> None:
    other = table1() | {"conditions": conditions(weights_sha256=["toy: " + "a" * 64, "riae: " + "c" * 64])}
    entries, _ = leaderboard([document(other), document(adaptive())])
    assert [entry.black_box_acc for entry in entries if entry.worst_acc is not None] == [None]


def test_failed_checks_are_marked_and_never_ranked() -> None:
    subjects = [
        subject("broken", 9, passed=False),
        subject("weak", 2),
        subject("strong", 5),
        subject("unchecked", 8, checks=[]),
    ]
    entries, complaints = leaderboard([document(adaptive(*subjects))])
    assert [(entry.defence, entry.rank) for entry in entries] == [
        ("strong", 1), ("weak", 2), ("broken", None), ("unchecked", None)
    ]  # fmt: skip
    assert entries[2].unreliable and entries[2].checks_failed == ("gradients are there",)
    assert "gradients are there" in entries[2].footnote and not complaints
    lines = leaderboard_table(entries).splitlines()
    assert (
        "toy, 2-way, test, L∞ ≤ 16/255" in lines[0] and "✗ 1 failed" in lines[-2] and "| 1 " not in lines[-2]
    )


def test_the_strongest_attack_counts_and_budgets_do_not_compete() -> None:
    small = adaptive_row("all attacks", 4, 8)
    autoattack = adaptive_row("autoattack", 16, 4)
    both = subject(rows=[*subject(left=4)["rows"], small, autoattack])
    entries, _ = leaderboard([document(adaptive(both)), document(adaptive(subject(left=2)))])
    assert [(entry.eps, entry.rank, entry.worst_acc) for entry in entries] == [
        ("4/255", 1, 70.0),
        ("16/255", 1, 10.0),
    ]
    (alone,) = [entry for entry in leaderboard([document(adaptive(both))])[0] if entry.eps == "16/255"]
    assert alone.autoattack_acc == "35.00"


@pytest.mark.parametrize(
    ("attack", "eps"), [("pgd", 16), ("pgd-e8", 8), ("apgd-ce-e4-random", 4), ("apgd-ce", 16)]
)
def test_the_budget_is_read_off_an_attacks_name(attack: str, eps: int) -> None:
    assert eps_of(attack) == eps


def test_a_broken_document_is_a_line() -> None:
    broken = document(table1([stored_row("pgd", "riae", 11)]), "runs/bad.json")
    entries, complaints = leaderboard([broken, document(adaptive())])
    assert len(entries) == 1 and len(complaints) == 1 and "runs/bad.json" in complaints[0]
