"""Which attacks an adaptive evaluation runs: controls, those of its preset, and what checks need."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from impure.pipeline.attacks.attack_registry import ATTACKS
from impure.purifier.evaluation.adaptive.adaptive_config import CLEAN, CONTROLS, NOISE, AdaptiveConfig, Cell

LARGE_EPS = 128  # at which nothing can be right any more
EPS_LEVELS = (2, 8, 32, LARGE_EPS)  # of the curve, beside the evaluated ones
EOT_LEVELS = (1, 5, 10, 20)
SQUARE = "square"
SQUARE_EOT = 5  # it asks for logits thousands of times
QUERIES_A_STEP = 25  # of Square, so that 200 steps stand for its published 5000 queries
PROBE_QUERIES = 100  # of Square in checks


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is attacked.

    Attributes:
        target: Its name in the shards.
        defence: Its column.
        settings: The defence's parameters in force.
        gradient: What the defence states of its gradient.
        is_random: Whether draws differ.
        keeps_size: Whether the identity can stand for its gradient.
        images: How many are attacked.
        available: How many clean images the shards hold of the target, from which they were chosen.
        plan: SHA-256 of the plan that chose these; of several, separated by blanks; empty where none is kept.
        defence_weights: SHA-256.
        target_weights: SHA-256.
        weights: SHA-256 of the weights of both and of the settings.
        pixels: SHA-256 of the images.
    """

    target: str
    defence: str
    settings: Mapping[str, object]
    gradient: str
    is_random: bool
    keeps_size: bool
    images: int
    available: int
    plan: str
    defence_weights: str
    target_weights: str
    weights: str
    pixels: str


def cells_of(config: AdaptiveConfig, subject: Subject) -> list[Cell]:
    """All cells of one defence before one target, those of the table first; none twice."""
    table = table_cells(config, subject)
    halves = [half for cell in table if (half := half_of(cell, config))]
    curves = [cell for curve in curve_cells(config, subject).values() for cell in curve]
    return list(dict.fromkeys([*table, *halves, *curves, *_checks(config, subject)]))


def table_cells(config: AdaptiveConfig, subject: Subject) -> list[Cell]:
    """The cells that are rows of the table: controls and attacks on all images."""
    base = _base(config, subject)
    return [*_controls(config, base), *_main(config, base, subject)]


def strongest(config: AdaptiveConfig, subject: Subject, eps: int) -> Cell:
    """The attack that checks compare others with: the first of the preset, with full knowledge."""
    return _attack_cell(config, _base(config, subject), config.attacks[0], eps)


def blind(cell: Cell) -> Cell:
    """The same attack on the bare target: what stored, black-box images are."""
    return replace(cell, knowledge="blind", eot=1)


def half_of(cell: Cell, config: AdaptiveConfig) -> Cell | None:
    """The attack with half the steps, which tells whether it has converged; None where there is no half."""
    return probe_of(cell, config, steps=cell.steps // 2) if cell.steps > 1 else None


def one_step(cell: Cell, config: AdaptiveConfig) -> Cell:
    """FGSM by the same attacker."""
    return probe_of(cell, config, attack="fgsm", steps=0, restarts=1)


def queries_alone(cell: Cell, config: AdaptiveConfig) -> Cell:
    """Square, which asks for logits only; of a random defence each time for one draw."""
    steps = max(PROBE_QUERIES // QUERIES_A_STEP, 1)
    return probe_of(cell, config, attack=SQUARE, steps=steps, restarts=1, eot=1)


def fixed_draws(cell: Cell, config: AdaptiveConfig) -> Cell:
    """The attack by somebody who knows the draws of the verdict, which is one then."""
    return replace(probe_of(cell, config, knowledge="draws", eot=1, restarts=1), samples=1)


def probe_of(cell: Cell, config: AdaptiveConfig, **changes: object) -> Cell:
    """A cell with some values changed, on the first images alone; without a change the cell itself."""
    changed = replace(cell, **changes)  # type: ignore[arg-type]  # fields of Cell
    if changed == cell:
        return cell
    images = min(config.probe, cell.images)
    return replace(changed, images=images, samples=min(cell.samples, *config.samples))


def curve_cells(config: AdaptiveConfig, subject: Subject) -> dict[str, list[Cell]]:
    """The first attack with full knowledge against its budget, its steps and its draws, by the changed field.

    Steps are followed at each budget of the table, draws at the smallest.
    """
    first = {eps: strongest(config, subject, eps) for eps in sorted(config.eps)}
    smallest = first[min(first)]
    levels = sorted({*EPS_LEVELS, *config.eps})
    steps = sorted({max(config.steps // 4, 1), max(config.steps // 2, 1), config.steps, 2 * config.steps})
    return {
        "eps": [probe_of(first[eps] if eps in first else smallest, config, eps=eps) for eps in levels],
        "steps": [
            probe_of(cell, config, steps=count) for cell in first.values() if cell.steps for count in steps
        ],
        "eot": [probe_of(smallest, config, eot=eot) for eot in EOT_LEVELS] if subject.is_random else [],
    }


def _checks(config: AdaptiveConfig, subject: Subject) -> Iterator[Cell]:
    """What the checks need besides."""
    first = strongest(config, subject, max(config.eps))
    yield one_step(first, config)
    yield queries_alone(first, config)
    if subject.is_random:
        yield fixed_draws(strongest(config, subject, min(config.eps)), config)


def _base(config: AdaptiveConfig, subject: Subject) -> Cell:
    """What all cells share."""
    return Cell(
        target=subject.target,
        defence=subject.defence,
        knowledge="full",
        attack=CLEAN,
        eps=0,
        steps=config.steps,
        eot=config.eot if subject.is_random else 1,
        restarts=config.restarts,
        images=subject.images,
        samples=max(config.samples) if subject.is_random else 1,
        seed=config.seed,
        batch_size=config.batch_size,
        weights=subject.weights,
        pixels=subject.pixels,
    )


def _attack_cell(config: AdaptiveConfig, base: Cell, attack: str, eps: int) -> Cell:
    """An attack with full knowledge; without steps, restarts or many draws where these mean nothing to it."""
    cell = replace(base, attack=attack, eps=eps)
    if attack == SQUARE:
        return replace(cell, eot=min(cell.eot, SQUARE_EOT), restarts=1)
    spec = ATTACKS.get(attack)  # an unknown one is refused where it is built
    if spec and not spec.paper.keys() & {"steps", "queries"}:
        cell = replace(cell, steps=0)
    draws = spec and (spec.random or spec.paper.get("random_start"))
    return cell if draws else replace(cell, restarts=1)


def _controls(config: AdaptiveConfig, base: Cell) -> Iterator[Cell]:
    """Clean images, and random noise of each budget's size."""
    control = replace(base, knowledge="none", steps=0, eot=1, restarts=1)
    yield control
    for eps in config.eps:
        yield replace(control, attack=NOISE, eps=eps)


def _main(config: AdaptiveConfig, base: Cell, subject: Subject) -> Iterator[Cell]:
    """The attacks of the preset, and the first of them by attackers who know less."""
    for eps in config.eps:
        cells = [_attack_cell(config, base, attack, eps) for attack in config.attacks]
        yield from map(blind, cells if config.transfers else cells[:1])
        if subject.keeps_size:
            yield replace(cells[0], knowledge="straight-through")
        yield from cells


def is_attack(cell: Cell) -> bool:
    """Whether it is no control."""
    return cell.attack not in CONTROLS
