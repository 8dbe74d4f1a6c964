"""The proof on photographs in one command: targets, pairs, purifiers, evaluations, docs/results.md.

    .venv/bin/python benchmarks/imagenette --scale cpu --photographs IMAGENETTE --cards TARGETS --out DIR

Killed at any moment, the same command goes on: finished stages stand in DIR/times.json, and the product
resumes what it was in the middle of. SMALL=1 makes everything as small as can be.
"""

import math
import os
import time
from pathlib import Path

import click
from results import write_results
from run_stages import Runs, done, run_all, run_stage, shown, to_do
from scales import SCALES, small
from stages import Proof, Stage, stages

from impure.manifests.base.errors import InputError

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.option("--scale", type=click.Choice(list(SCALES)), default="cpu", show_default=True, help="The size.")
@click.option("--photographs", type=Path, required=True, help="Imagenette: train/<wnid>/*, val/<wnid>/*.")
@click.option("--cards", type=Path, required=True, help="Folder of the shared targets' cards and weights.")
@click.option("--out", type=Path, required=True, help="Everything that is made.")
@click.option("--results", type=Path, show_default="OUT/results.md", help="The page that is written.")
@click.option("--remarks", type=FOLDER, help="Where findings.md and notes.md are: what you say of this run.")
@click.option("--minutes", type=float, default=math.inf, help="Stop after this time, wherever it is.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Stages run at once.")
@click.option("--until", metavar="STAGE", help="The last stage to run.")
@click.option("--dry-run", is_flag=True, help="List stages and commands, and what is done already.")
def main(
    scale: str, photographs: Path, cards: Path, out: Path, results: Path | None, remarks: Path | None,
    minutes: float, jobs: int, until: str | None, dry_run: bool,
) -> None:  # fmt: skip
    """Make the proof, or go on with it."""
    chosen = small(SCALES[scale]) if os.environ.get("SMALL") else SCALES[scale]
    proof = Proof(
        scale=chosen,
        out=out.absolute(),
        photographs=photographs.absolute(),
        cards=cards.absolute(),
        remarks=remarks,
    )
    planned = _until(_planned(proof), until)
    runs = Runs(proof.out / "times.json")
    if dry_run:
        for stage in planned:
            click.echo(f"{'done' if done(stage, runs) else 'to do'}: {stage.name}\n  {shown(stage)}")
        return
    end = time.monotonic() + 60 * minutes
    page = results or proof.out / "results.md"
    failed = run_all(
        to_do(planned, runs),
        jobs,
        lambda stage: run_stage(stage, runs, proof.out, end - time.monotonic()),
        lambda: write_results(planned, runs, proof, page),
    )
    write_results(planned, runs, proof, page)
    raise SystemExit(1 if failed else 0)


def _planned(proof: Proof) -> list[Stage]:
    """All stages.

    Raises:
        click.ClickException: A target's card cannot be read.
    """
    try:
        return stages(proof)
    except InputError as error:
        raise click.ClickException(str(error)) from error


def _until(planned: list[Stage], last: str | None) -> list[Stage]:
    """The stages up to one of them.

    Raises:
        click.UsageError: There is none of that name.
    """
    names = [stage.name for stage in planned]
    if last is not None and last not in names:
        raise click.UsageError(f"--until {last}: no stage; choose from {', '.join(names)}")
    return planned if last is None else planned[: names.index(last) + 1]


if __name__ == "__main__":
    main()
