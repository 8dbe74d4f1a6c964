"""How small the perturbations of minimal-norm attacks are beside the libraries', before and after rounding.

Without rounding is how the libraries work; what storage leaves of it shows why ours look at stored bytes. All
images are projected to [0, 1] before the target sees them.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import packages_distributions, version
from pathlib import Path

import click
import torch
from contest import device_name
from norm_contenders import CONTENDERS, UNBOUND, Contender
from torch import Tensor

from impure.manifests.base.tables import markdown_table
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.stored_pairs import read_pairs
from impure.pipeline.attacks.engine.gradients import Model
from impure.pipeline.attacks.engine.precision import matrix_products
from impure.pipeline.attacks.engine.rng import KeyedRng
from impure.pipeline.attacks.engine.threat_model import Problem, make_problem
from impure.pipeline.devices import open_device
from impure.pipeline.targets.load import load_target
from impure.pipeline.tensors import to_tensor

LIBRARIES = sorted({each.library for group in CONTENDERS.values() for each in group.values()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One contender.

    Attributes:
        success: rate of its images that fool the target, projected to [0, 1], or stored if it looks there.
        success_stored: rate of its images that do once they are stored.
        l2: mean L2 norm of its own images, pixels in [0, 1], where every contender of the attack succeeds.
        l2_stored: the same once stored, where all that look at stored images succeed; None for the others.
        seconds: duration.
    """

    attack: str
    contender: str
    success: float
    success_stored: float
    l2: float
    l2_stored: float | None
    seconds: float


def photographs(root: Path, count: int, device: torch.device) -> tuple[Tensor, Tensor, list[str]]:
    """Read clean images, labels and names from a collection's untouched pairs, spread over its classes."""
    shards = [each for each in Collection(root).committed if each.shard_id.attack == "clean"]
    samples = [sample for shard in shards for sample in read_pairs(shard)]
    samples = samples[:: max(len(samples) // count, 1)][:count]
    labels = torch.tensor([sample.label for sample in samples], device=device)
    return to_tensor([sample.clean for sample in samples], device), labels, [s.key for s in samples]


def contest(target: Model, problem: Problem, attack: str, contenders: Mapping[str, Contender]) -> list[Row]:
    """Run every contender, and show the target what it found: the image itself, and what storage leaves."""
    own: dict[str, Tensor] = {}
    stored: dict[str, Tensor] = {}
    seconds: dict[str, float] = {}
    for name, contender in contenders.items():
        begun = time.perf_counter()
        images = contender.run(target, problem)
        if images.is_cuda:
            torch.cuda.synchronize(images.device)
        seconds[name] = time.perf_counter() - begun
        stored[name] = problem.stored(images)
        own[name] = stored[name] if contender.stored else problem.project(images)
    fooled = {name: fools(target, problem, images) for name, images in own.items()}
    fooled_stored = {name: fools(target, problem, images) for name, images in stored.items()}
    everywhere = torch.stack(list(fooled.values())).all(0)
    looking = [fooled_stored[name] for name, contender in contenders.items() if contender.stored]
    everywhere_stored = torch.stack(looking).all(0) if looking else None
    return [
        Row(
            attack=attack, contender=name, seconds=seconds[name],
            success=fooled[name].double().mean().item(),
            success_stored=fooled_stored[name].double().mean().item(),
            l2=mean_norm(problem, own[name], everywhere),
            l2_stored=mean_norm(problem, stored[name], everywhere_stored)
            if contenders[name].stored and everywhere_stored is not None else None,
        )
        for name in contenders
    ]  # fmt: skip


def mean_norm(problem: Problem, images: Tensor, chosen: Tensor) -> float:
    """Return the mean L2 distance of the chosen images from the clean ones."""
    return (images - problem.clean).flatten(1).norm(dim=1)[chosen].double().mean().item()


@torch.no_grad()
def fools(target: Model, problem: Problem, images: Tensor) -> Tensor:
    """Return which images the target takes for another class, bool, (N,)."""
    return problem.criterion.reached(target(images))


def versions(libraries: list[str]) -> dict[str, str]:
    """Return the versions of PyTorch and of those libraries that are installed."""
    distributions = packages_distributions()
    return {name: version(distributions[name][0]) for name in ("torch", *libraries) if name in distributions}


@click.command()
@click.argument("root", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--target", "card", required=True, help="The target of the collection.")
@click.option("--count", type=click.IntRange(min=1), default=50, show_default=True, help="Images.")
@click.option("--attack", "attacks", multiple=True, type=click.Choice(list(CONTENDERS)),
    default=list(CONTENDERS), show_default=True, help="Attack to compare. Repeat it for more.")  # fmt: skip
@click.option("--library", "libraries", multiple=True, type=click.Choice(LIBRARIES), default=LIBRARIES,
    show_default="all that are installed", help="Whose attacks to run. Repeat it for more.")  # fmt: skip
@click.option("--device", default="cpu", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def main(
    root: Path,
    card: str,
    count: int,
    attacks: tuple[str, ...],
    libraries: tuple[str, ...],
    device: str,
    threads: int,
    as_json: bool,
) -> None:
    """Compare on the untouched pairs of the collection ROOT (`impure-data generate --attack clean`)."""
    place = open_device(device, threads)
    target = load_target(card).to(place)
    clean, labels, names = photographs(root, count, place)
    rng = KeyedRng(seed=0, attack="norms", source_ids=tuple(names))
    problem = make_problem(target, clean, labels, UNBOUND, rng, torch.float32)
    rows = []
    for attack in attacks:
        group = CONTENDERS[attack].items()
        taking_part = {name: each for name, each in group if each.library in libraries and each.installed}
        with matrix_products("fp32"):
            rows += [asdict(row) for row in contest(target, problem, attack, taking_part)]
        click.echo(f"{attack} done", err=True)
    conditions = {
        "target": target.card.name, "images": len(labels), "threads": threads,
        "device": device_name(labels.device), "versions": versions(sorted(libraries)),
    }  # fmt: skip
    if as_json:
        return click.echo(json.dumps({"conditions": conditions, "rows": rows}, indent=1))
    cells = [
        [f"{value:.4f}" if isinstance(value, float) else str(value or "") for value in row.values()]
        for row in rows
    ]
    return click.echo(f"{conditions}\n\n{markdown_table(list(rows[0]), cells)}")


if __name__ == "__main__":
    main()
