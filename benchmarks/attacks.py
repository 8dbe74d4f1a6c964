"""What each attack costs beside its gradient evaluations, a plain loop and the libraries, in one run.

Contenders take turns on the same random images before the same untrained network; see README.md beside this.
"""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version

import click
import torch
from contenders import (
    LINEARISED,
    Bench,
    by_libraries,
    gradient_evaluation,
    linearisations,
    plain_loop,
    published,
    set_up,
)
from contest import Contender, Goal, Row, Section, compete, device_name, repeat

from impure.manifests.base.errors import InputError
from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.attack_names import PRECISIONS
from impure.pipeline.attacks.engine.precision import matrix_products
from impure.pipeline.attacks.references.reference_libraries import REFERENCES

GOALS = {
    "fgsm": 1.05, "pgd": 1.05, "mifgsm": 1.05, "difgsm": 1.08, "mdifgsm": 1.08, "apgd-ce": 1.10,
    "apgd-dlr": 1.10, "cw": 1.05, "deepfool": 0.01,
}  # fmt: skip
"""The highest ratio to the bare gradients that an attack should have; DeepFool's is to Torchattacks' time."""

SHORTENED = {"cw": (("search_steps", 2), ("steps", 10))}

_APGD_NOTE = "Baseline: the 11 gradients of the published program. Ours skips the last, which nothing uses."
NOTES = {
    "cw": "Shortened for all: 2 searches of 10 steps; Torchattacks, without a search, 20 steps, c = 1000.",
    "apgd-ce": _APGD_NOTE,
    "apgd-dlr": _APGD_NOTE,
}

BARE, OURS = "gradients alone", "impure"


def run(bench: Bench, name: str) -> list[Section]:
    """Compare an attack with its bare gradients and with every other program of it."""
    config = AttackConfig(name=name, overrides=SHORTENED.get(name, ()))
    problem, attack, units = bench.problem(name), config.build(), published(config)
    bare = partial(gradient_evaluation, bench.model, problem.clean, problem.labels)
    bare()
    proposal = attack.propose(problem)
    contenders = [
        Contender(name=BARE, work=partial(repeat, units, bare), units=units),
        Contender(name=OURS, work=partial(attack.propose, problem), units=units),
        *by_libraries(bench, config, problem),
    ]
    if name in ("fgsm", "pgd", "mifgsm"):
        images = problem.clean.contiguous()
        work = partial(plain_loop, bench.as_built, images, problem.labels, config.params)
        contenders.append(Contender(name="plain loop, network as built", work=work, units=units))
    rows = compete(
        contenders, bench.images.device, images=len(problem.clean), rounds=bench.rounds,
        repeats=max(1, 10 // units), peak=bench.peak,
    )  # fmt: skip
    section = Section(
        attack=name, unit="gradient", note=NOTES.get(name, ""), params=config.params,
        grad_evals=proposal.grad_evals.tolist(), rows=rows, goals=ratio_goals(name, rows),
    )  # fmt: skip
    return [section]


def ratio_goals(name: str, rows: list[Row]) -> list[Goal]:
    """Compare our ratio with its limit and with the libraries'."""
    ours, limit = next(row.ratio for row in rows if row.name == OURS), GOALS[name]
    goals = [Goal(text="ratio at most", value=ours, limit=limit, met=ours <= limit)]
    return goals + [
        Goal(text=f"ratio below that of {row.name},", value=ours, limit=row.ratio, met=ours < row.ratio)
        for row in rows
        if row.name.startswith(tuple(REFERENCES))
    ]


def run_deepfool(bench: Bench) -> list[Section]:
    """Compare DeepFool with its bare linearisations, and one step on one image with Torchattacks'.

    Torchattacks takes 1000 gradients a step, which is minutes: it is run once, and never for its warm-up.
    """
    whole = deepfool_section(bench, "deepfool", AttackConfig(name="deepfool"), None, [], bench.rounds)
    once = AttackConfig(name="deepfool", overrides=(("steps", 1),))
    reference = REFERENCES["torchattacks"]["deepfool"]
    work = partial(reference.run, bench.model, bench.problem("deepfool", 1), {"overshoot": 0.02, "steps": 1})
    rivals = [Contender(name="torchattacks", work=work, units=1)]
    step = deepfool_section(bench, "deepfool: one step on one image", once, 1, rivals, 1)
    theirs = step.rows[2].median
    for text, section in (("as run above", whole), ("one image", step)):
        share = section.rows[1].median / section.rows[1].units / theirs
        limit = GOALS["deepfool"]
        text = f"time per image and step over torchattacks', {text}, at most"
        step.goals.append(Goal(text=text, value=share, limit=limit, met=share <= limit))
    return [whole, step]


def deepfool_section(
    bench: Bench, title: str, config: AttackConfig, count: int | None, rivals: list[Contender], rounds: int
) -> Section:
    """Time DeepFool beside bare iterations on as many images as were still in its batch."""
    problem, attack = bench.problem("deepfool", count), config.build()
    proposal = attack.propose(problem)
    iterations = proposal.grad_evals // (int(config.params["candidates"]) - 1)
    sizes = [int((iterations > step).sum()) for step in range(int(iterations.max()))]
    bare = partial(linearisations, bench.model, problem.clean, sizes)
    bare()
    contenders = [
        Contender(name=BARE, work=bare, units=sum(sizes)),
        Contender(name=OURS, work=partial(attack.propose, problem), units=sum(sizes)),
        *rivals,
    ]
    note = (
        f"Images in the batch at each iteration: {', '.join(map(str, sizes))}. One image's step is "
        f"for the baseline 1 forward pass and {LINEARISED} input gradients, for torchattacks 1000."
    )
    rows = compete(contenders, bench.images.device, images=len(problem.clean), rounds=rounds, peak=bench.peak)
    return Section(
        attack=title, unit="step", note=note, params=config.params,
        grad_evals=proposal.grad_evals.tolist(), rows=rows, goals=[],
    )  # fmt: skip


@click.command()
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; PyTorch's choice by default.")
@click.option("--model", default="resnet18", show_default=True, help="A torchvision classifier, untrained.")
@click.option("--size", type=click.IntRange(8), default=112, show_default=True, help="Pixels a side.")
@click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True, help="Timings of each.")
@click.option(
    "--attack", "names", type=click.Choice(list(GOALS)), multiple=True, help="Only this; repeatable."
)
@click.option("--precision", type=click.Choice(PRECISIONS), default="fp32", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")
def main(
    device: str, threads: int | None, model: str, size: int, batch_size: int, rounds: int,
    names: tuple[str, ...], precision: str, as_json: bool,
) -> None:  # fmt: skip
    """Measure the attacks beside their bare gradients and the libraries; goals are marked, never enforced."""
    torch.set_num_threads(threads or torch.get_num_threads())
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    place = torch.device(automatic if device == "auto" else device)
    conditions: dict[str, object] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device_name(place),
        "threads": torch.get_num_threads(),
        "model": model, "size": size, "batch_size": batch_size, "rounds": rounds, "precision": precision,
        "versions": {name: version(name) for name in ("torch", "torchvision", "torchattacks", "cleverhans")},
    }  # fmt: skip
    sections: list[Section] = []
    with matrix_products(precision):
        try:
            bench = set_up(place, model, size, batch_size, rounds, precision)
        except (InputError, ValueError) as error:
            raise click.UsageError(str(error)) from error
        conditions |= {"matmul_flops_per_second": bench.peak} if bench.peak else {}
        if not as_json:
            click.echo("\n".join(f"- {name}: {value}" for name, value in conditions.items()) + "\n")
        for name in names or tuple(GOALS):
            found = run_deepfool(bench) if name == "deepfool" else run(bench, name)
            sections += found
            if not as_json:
                click.echo("\n".join(map(str, found)))
    if as_json:
        document = {"conditions": conditions, "attacks": [asdict(section) for section in sections]}
        click.echo(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
