"""How small C&W's and DeepFool's perturbations are beside the libraries', before and after rounding.

Without rounding is how the libraries work; what storage leaves of it shows why ours look at stored bytes.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import click
import torch
from attacks import device_name
from torch import Tensor

from impure.manifests.base.tables import markdown_table
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.stored_pairs import read_pairs
from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.engine.rng import KeyedRng
from impure.pipeline.attacks.engine.threat_model import Problem, make_problem
from impure.pipeline.targets.load import load_target
from impure.pipeline.targets.target import Target
from impure.pipeline.tensors import to_tensor

UNBOUND = 255
"""No budget: the libraries know none for these attacks."""

STORED = "impure, looking at stored bytes"

CONTENDERS = {
    "cw": {
        "impure": {"kappa": 0.0},
        "torchattacks": {"kappa": 0.0},
        "cleverhans": {"kappa": 0.0},
    },
    "deepfool": {"impure": {}, "torchattacks": {}},
}
"""Attack → library → what differs from its preset; Torchattacks gets its own, it knows no search over c."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One contender: success rates in [0, 1], and mean L2 (pixels in [0, 1]) where all succeed unrounded."""

    attack: str
    contender: str
    success: float
    success_stored: float
    l2_where_all_succeed: float
    seconds: float


def photographs(root: Path, count: int) -> tuple[Tensor, Tensor, list[str]]:
    """Read clean images, labels and names from a collection's untouched pairs."""
    shards = [each for each in Collection(root).committed if each.shard_id.attack == "clean"]
    samples = [sample for shard in shards for sample in read_pairs(shard)][:count]
    labels = torch.tensor([sample.label for sample in samples])
    return to_tensor([sample.clean for sample in samples], labels.device), labels, [s.key for s in samples]


def contest(target: Target, problem: Problem, attack: str) -> Iterator[Row]:
    """Run every contender without rounding, and ours as it is meant to be run as well."""
    found: dict[str, tuple[Tensor, float]] = {}
    for library, changes in CONTENDERS[attack].items():
        config = AttackConfig(
            name=attack,
            eps_255=UNBOUND,
            implementation=library,
            overrides=tuple(changes.items()),
            preset="library" if library == "torchattacks" else "paper",
        )
        found[library] = timed(config, replace(problem, quantised=False))
        if library == "impure":
            images, seconds = timed(config, problem)
            found[STORED] = problem.stored(images), seconds
    fooled = {name: wrong(target, problem, images) for name, (images, _) in found.items()}
    everywhere = torch.stack([fooled[name] for name in found if name != STORED]).all(0)
    for name, (images, seconds) in found.items():
        distance = (images - problem.clean).flatten(1).norm(dim=1)
        yield Row(
            attack=attack, contender=name, success=fooled[name].float().mean().item(),
            success_stored=wrong(target, problem, problem.stored(images)).float().mean().item(),
            l2_where_all_succeed=distance[everywhere].mean().item(), seconds=seconds,
        )  # fmt: skip


def timed(config: AttackConfig, problem: Problem) -> tuple[Tensor, float]:
    """Return the proposed images and how long it took, seconds."""
    begun = time.perf_counter()
    images = config.build().propose(problem).images
    return images, time.perf_counter() - begun


@torch.no_grad()
def wrong(target: Target, problem: Problem, images: Tensor) -> Tensor:
    """Return which images the target takes for another class, bool, (N,)."""
    return problem.criterion.reached(target(images))


@click.command()
@click.argument("root", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--target", "card", required=True, help="The target of the collection.")
@click.option("--count", type=click.IntRange(min=1), default=50, show_default=True, help="Images.")
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def main(root: Path, card: str, count: int, threads: int, as_json: bool) -> None:
    """Compare on the untouched pairs of the collection ROOT (`impure-data generate --attack clean`)."""
    torch.set_num_threads(threads)
    target = load_target(card)
    clean, labels, names = photographs(root, count)
    rng = KeyedRng(seed=0, attack="norms", source_ids=tuple(names))
    problem = make_problem(target, clean, labels, UNBOUND, rng, torch.float32)
    rows = [asdict(row) for attack in CONTENDERS for row in contest(target, problem, attack)]
    packages = ("torch", "torchattacks", "cleverhans")
    conditions = {
        "target": target.card.name, "images": len(labels), "threads": threads,
        "device": device_name(labels.device), "versions": {name: version(name) for name in packages},
    }  # fmt: skip
    if as_json:
        return click.echo(json.dumps({"conditions": conditions, "rows": rows}, indent=1))
    cells = [[value if isinstance(value, str) else f"{value:.3f}" for value in row.values()] for row in rows]
    return click.echo(f"{conditions}\n\n{markdown_table(list(rows[0]), cells)}")


if __name__ == "__main__":
    main()
