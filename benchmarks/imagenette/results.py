"""Writes the page of results from the JSON of the evaluations that are there."""

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from chart import write_chart
from run_stages import Run, Runs, done, shown
from scales import AGNOSTIC
from stages import Proof, Stage

from impure.manifests.base.tables import markdown_table
from impure.purifier.evaluation.scores import wilson

CLEAN, NONE, MEAN = "clean", "none", "mean of attacks"
RIAE = "-riae"  # behind a table's name: RIAE alone, several draws of it, where all else is drawn once

TITLES = {
    "table1": "Table 1: without a defence, and behind RIAE",
    "table2": "Table 2: every defence",
    "diffusion": "DiffPure, on few images",
    "table3": f"Table 3: trained on {AGNOSTIC} alone, tested on all",
    "fig7": "Figure 7: masking modes, all trained alike and briefly",
    "fig8": "Figure 8: perceptual layers; `pixels alone` is what the other went on from",
    "transfer": "Transfer: trained on the pairs of two targets, tested on a third",
}
Rows = Sequence[Mapping[str, Any]]


def write_results(planned: Sequence[Stage], runs: Runs, proof: Proof, page: Path) -> None:
    """Write what is known so far."""
    finished = [stage for stage in planned if done(stage, runs)]
    tables = {stage.name: _document(stage.fresh) for stage in finished if stage.fresh}
    columns = {"accuracy", "defence"}  # of an evaluation whose table is one of the page's own
    measured = {name: document for name, document in tables.items() if columns <= document["rows"][0].keys()}
    shown_tables = _joined({name: of for name, of in measured.items() if not name.startswith("choice-")})
    page.parent.mkdir(parents=True, exist_ok=True)
    parts = [
        f"# Results on photographs\n\n{_what(proof, measured)}",
        *_written(proof, "findings.md"),
        *(_section(name, document, page) for name, document in shown_tables.items()),
        *_choices(proof, measured),
        *(_page(proof, name) for name in tables if name not in measured),
        *(_page(proof, stage.name) for stage in finished if stage.name == "adaptive"),
        _looks(runs.all),
        _commands(finished, runs),
    ]
    page.write_text(_without_places("\n\n".join(parts) + "\n", proof))


def _joined(tables: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The tables, RIAE where it was measured apart as further rows of the table that it belongs to."""
    joined = dict(tables)
    for name in [name for name in tables if name.endswith(RIAE)]:
        document = joined.pop(name)
        whole = joined.get(name.removesuffix(RIAE), document | {"rows": []})
        joined[name.removesuffix(RIAE)] = whole | {"rows": [*whole["rows"], *document["rows"]]}
    return joined


def _without_places(text: str, proof: Proof) -> str:
    """A text with words for the folders of this machine."""
    places = {proof.out: "OUT", proof.photographs: "IMAGENETTE", proof.cards: "TARGETS"}
    for place, word in places.items():
        text = text.replace(str(place), word)
    return text


def _document(folder: Path) -> dict[str, Any]:
    """The document of an evaluation."""
    (file,) = folder.glob("*.json")
    document: dict[str, Any] = json.loads(file.read_text())
    return document


def _page(proof: Proof, name: str) -> str:
    """An evaluation's own page, below this one's headings and without its pictures and conditions."""
    (file,) = (proof.out / "evaluations" / name).glob("*.md")
    lines = file.read_text().partition("\n- ")[0] if name != "adaptive" else file.read_text()
    kept = [line for line in lines.strip().splitlines() if not line.startswith("![")]
    return "\n".join(f"#{line}" if line.startswith("#") else line for line in kept)


def _what(proof: Proof, tables: Mapping[str, Mapping[str, Any]]) -> str:
    """What was measured on what."""
    scale = proof.scale
    conditions = next((document["conditions"] for document in tables.values()), {})
    train, validation, test = scale.per_class
    size = f"{scale.size} px, ten-class targets fine-tuned by the same command" if scale.size else "full size"
    return (
        f"Imagenette, {size}. Main target: {proof.target(0)}. Nine attacks, L∞, ε = {scale.eps[0]}/255 where "
        f"nothing else is said. Images of each class, all classified correctly when clean: {train} to train "
        f"on, {validation} to choose by, {test} to test. Accuracy (top-1) in %; below it Wilson's 95 % "
        "interval. The mean's takes the attacks of an image as one observation, so it is rather too wide. "
        "*Recovered*: (defence - none) / (clean - none), mean of the attacks. The attacker did not know the "
        "defence (black-box), but under *Adaptive evaluation*. "
        "Software: " + ", ".join(conditions.get("software", ["?"])) + ".\n\n"
        "The command that made all of it, and makes it again:\n\n"
        f"```\n{'SMALL=1 ' if scale.small else ''}.venv/bin/python benchmarks/imagenette "
        f"--scale {scale.name} --photographs IMAGENETTE --cards TARGETS --out OUT "
        "--results docs/results.md\n```"
    )


def _section(name: str, document: Mapping[str, Any], page: Path) -> str:
    """A heading and a table of one target each; where there are many defences, a picture of it too."""
    title, _, eps = name.partition("-eps")
    heading = TITLES.get(title, title) + (f", ε = {eps}/255" if eps else "")
    rows: Rows = document["rows"]
    targets = dict.fromkeys(row["target"] for row in rows)
    counts = sorted({row["n"] for row in rows})
    shown_counts = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    blocks = [_table([row for row in rows if row["target"] == target]) for target in targets]
    caption = f"{document['conditions'].get('images', '')}; {shown_counts} images a column."
    seeds = _of_seeds(rows) if name == "table1" else ()
    picture = [_picture(rows, heading, page)] if name == "table2" else []
    return "\n\n".join([f"## {heading}", caption, *picture, *blocks, *seeds])


def _picture(rows: Rows, title: str, page: Path) -> str:
    """A table as a picture."""
    cells = {(_label(row), row["attack"]): row for row in rows}
    places = {label: place for place, label in enumerate(_ordered(rows))}
    ordered = sorted(cells.items(), key=lambda cell: places[cell[0][0]])
    drawn = [(*place, row["correct"], row["n"]) for place, row in ordered]
    return write_chart(drawn, title, page, "table2")


def _ordered(rows: Rows) -> list[str]:
    """The labels of defences, none first, then from the lowest mean of the attacks to the highest."""
    return sorted(dict.fromkeys(map(_label, rows)), key=lambda label: (label != NONE, _mean(rows, label)))


def _table(rows: Rows) -> str:
    """Defences in lines, the best last, and attacks in columns."""
    attacks = list(dict.fromkeys(row["attack"] for row in rows))
    cells = {(_label(row), row["attack"]): row for row in rows}
    lines = [
        [label, *(_cell(cells.get((label, attack))) for attack in attacks), *_summary(cells, label, attacks)]
        for label in _ordered(rows)
    ]
    return markdown_table(["defence", *attacks, MEAN, "recovered"], lines)


def _mean(rows: Rows, label: str) -> float:
    """Mean accuracy of a defence over the attacks."""
    return statistics.fmean(_rate(row) for row in rows if _label(row) == label and row["attack"] != CLEAN)


def _label(row: Mapping[str, Any]) -> str:
    """The defence, its run where that has another name, and how several samples were combined."""
    name, _, run = str(row["defence"]).partition(":")
    run = run.removesuffix("/best")
    label = name if run in ("", name) else f"{name} ({run})"
    return label if row.get("samples", 1) == 1 else f"{label} ({row['combine']} of {row['samples']})"


def _cell(row: Mapping[str, Any] | None) -> str:
    """Accuracy above its interval."""
    return "" if row is None else _percent(row["correct"], row["n"])


def _percent(correct: float, n: int) -> str:
    low, high = wilson(round(correct), n)
    return f"{100 * correct / n:.1f}<br>{100 * low:.1f}-{100 * high:.1f}"


def _summary(cells: Mapping[tuple[str, str], Mapping[str, Any]], label: str, attacks: list[str]) -> list[str]:
    """Mean over the attacks, and the share of the lost accuracy that came back."""
    attacked = [attack for attack in attacks if attack != CLEAN and (label, attack) in cells]
    if not attacked:
        return ["", ""]
    mine = [cells[label, attack] for attack in attacked]
    mean = statistics.fmean(row["correct"] / row["n"] for row in mine)
    n = min(row["n"] for row in mine)
    share = recovered(cells, label, attacked)
    return [_percent(mean * n, n), "" if share is None or label == NONE else f"{share:.2f}"]


def recovered(
    cells: Mapping[tuple[str, str], Mapping[str, Any]], label: str, attacked: Sequence[str]
) -> float | None:
    """(defence - none) / (clean - none), mean of the attacks; None where it was not measured without one."""
    if (NONE, CLEAN) not in cells:
        return None
    clean = _rate(cells[NONE, CLEAN])
    shares = [
        (_rate(cells[label, attack]) - bare) / (clean - bare)
        for attack in attacked
        if (bare := _rate(cells[NONE, attack])) < clean
    ]
    return statistics.fmean(shares) if shares else None


def _rate(row: Mapping[str, Any]) -> float:
    return float(row["correct"]) / int(row["n"])


def _of_seeds(rows: Rows) -> Iterator[str]:
    """Mean and standard deviation over RIAE that differ in their seed alone, where there are several."""
    trained = [row for row in rows if _label(row).startswith("riae")]
    attacks = list(dict.fromkeys(row["attack"] for row in trained))
    rates = {attack: [_rate(row) for row in trained if row["attack"] == attack] for attack in attacks}
    attacked = [values for attack, values in rates.items() if attack != CLEAN]
    rates[MEAN] = [statistics.fmean(values) for values in zip(*attacked, strict=True)]
    if (count := len(rates[CLEAN])) > 1:
        spread = [
            f"{100 * statistics.fmean(of):.1f} ± {100 * statistics.stdev(of):.1f}" for of in rates.values()
        ]
        yield markdown_table([f"mean ± standard deviation of {count} seeds", *rates], [["riae", *spread]])


def _choices(proof: Proof, tables: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What was compared on validation images."""
    lines = []
    for name, document in tables.items():
        if name.startswith("choice-"):
            rows = [row for row in document["rows"] if row["defence"] != NONE]
            attacked = [_rate(row) for row in rows if row["attack"] != CLEAN]
            clean = [_rate(row) for row in rows if row["attack"] == CLEAN]
            shares = [f"{100 * statistics.fmean(values):.1f}" for values in (attacked, clean)]
            lines.append([name.removeprefix("choice-"), *shares, rows[0]["n"]])
    if lines:
        head = ["RIAE, on validation images", MEAN, CLEAN, "n"]
        table = markdown_table(head, lines)
        yield f"## Choices\n\nMade on validation images alone.\n\n{table}"
        yield from _written(proof, "notes.md")


def _written(proof: Proof, name: str) -> Iterator[str]:
    """What a person wrote about this run; of another one it would be wrong."""
    if proof.remarks is not None and (proof.remarks / name).is_file():
        yield (proof.remarks / name).read_text().strip()


def _looks(runs: Sequence[Run]) -> str:
    """Every look at the test images."""
    lines = [[run["begun"], run["stage"], run["code"]] for run in runs if run["looks"]]
    table = markdown_table(["begun", "stage", "exit code"], lines) if lines else "None so far."
    return f"## Looks at the test images\n\n{table}"


def _commands(finished: Sequence[Stage], runs: Runs) -> str:
    """What was run, and how long it took."""
    lines = []
    for stage in finished:
        seconds = sum(run["seconds"] for run in runs.of(stage))
        lines.append(f"# {stage.name}: {seconds:.0f} s\n{shown(stage)}")
    total = sum(run["seconds"] for run in runs.all)
    listed = "\n".join(lines)
    return f"## Commands and times\n\nIn all {total / 60:.0f} minutes of stages.\n\n```\n{listed}\n```"
