"""Documents as the commands of impure-eval write them, and files for them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from impure.purifier.evaluation.scores import wilson

WEIGHTS = {"toy": "a" * 64, "riae": "b" * 64}


def conditions(**more: Any) -> dict[str, Any]:
    return {
        "images": "toy, 2-way, test",
        "weights_sha256": [f"{name}: {sha}" for name, sha in WEIGHTS.items()],
        **more,
    }


def stored_row(attack: str, defence: str, correct: int, **more: Any) -> dict[str, Any]:
    return {"target": "toy", "attack": attack, "defence": defence, "n": 10, "correct": correct, **more}


def table1(rows: Sequence[dict[str, Any]] = (), **more: Any) -> dict[str, Any]:
    rows = rows or [
        stored_row("clean", "none", 10),
        stored_row("clean", "riae", 9),
        stored_row("pgd", "none", 0),
        stored_row("pgd", "riae", 7),
        stored_row("pgd-e4", "riae", 8),
    ]
    return {"kind": "table1", "conditions": conditions(), "rows": rows, **more}


def adaptive_row(attack: str, eps: int, right: int, **more: Any) -> dict[str, Any]:
    """Ten images, of which so many are right in most draws, one less in all; controls of 9 and 8."""
    row: dict[str, Any] = {
        "target": "toy", "defence": "riae",
        "target_weights": WEIGHTS["toy"], "defence_weights": WEIGHTS["riae"],
        "attack": attack, "eps": eps, "knowledge": "full", "samples": 5, "n": 10, "steps": 20, "eot": 5,
        "restarts": 1, "converged": True, "grad_evals": 100.0, "flop": 2.5e9, "seconds": 0.5,
    }  # fmt: skip
    shares = {"mean": right - 0.5 * (right > 0), "worst": right - (right > 0), "vote": right}
    for verdict, count in shares.items():
        low, high = wilson(round(count), 10)
        row |= {verdict: count / 10, f"{verdict}_low": low, f"{verdict}_high": high}
        row |= {f"clean_{verdict}": 0.9, f"noise_{verdict}": 0.8 if eps else None}
    return row | more


def subject(defence: str = "riae", left: int = 3, passed: bool = True, **more: Any) -> dict[str, Any]:
    """A defence with its rows inside, for `adaptive` to take out."""
    return {
        "target": "toy",
        "defence": defence,
        "rows": [
            adaptive_row("clean", 0, 10, knowledge="none"),
            adaptive_row("noise", 16, 9, knowledge="none"),
            adaptive_row("pgd-ce", 16, left + 1),
            adaptive_row("all attacks", 16, left),
        ],
        "checks": [
            {"name": "steps beat one step", "passed": True, "detail": "30 %, 50 %"},
            {"name": "gradients are there", "passed": passed, "detail": "0 % of values are zero"},
        ],
        **more,
    }


def adaptive(*subjects: dict[str, Any], **more: Any) -> dict[str, Any]:
    defences = [dict(each) for each in subjects or [subject()]]
    rows = [
        row | {name: each[name] for name in ("target", "defence")}
        for each in defences
        for row in each.pop("rows")
    ]
    return {"kind": "adaptive", "conditions": conditions(), "rows": rows, "defences": defences, **more}


def write(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path
