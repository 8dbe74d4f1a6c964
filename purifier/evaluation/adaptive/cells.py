"""Which attacks an adaptive evaluation runs: controls, those of its preset, and probes that check it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from impure.purifier.evaluation.adaptive.adaptive_config import CLEAN, NOISE, AdaptiveConfig, Cell

LARGE_EPS = 128  # at which nothing can be right any more
EOT_LEVELS = (1, 5, 10, 20)
PROBE_QUERIES = 5  # hundreds, of Square in probes


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is attacked.

    Attributes:
        target: Its name in the shards.
        defence: Its column.
        is_random: Whether draws differ.
        keeps_size: Whether the identity can stand for its gradient.
        images: How many there are.
        weights: SHA-256 of the weights of both.
        pixels: SHA-256 of the images.
    """

    target: str
    defence: str
    is_random: bool
    keeps_size: bool
    images: int
    weights: str
    pixels: str


def cells_of(config: AdaptiveConfig, subject: Subject) -> list[Cell]:
    """All cells of one defence before one target, those of the table first; none twice."""
    return list(dict.fromkeys([*table_cells(config, subject), *_probes(config, _base(config, subject))]))


def table_cells(config: AdaptiveConfig, subject: Subject) -> list[Cell]:
    """The cells that are rows of the table: controls and attacks on all images."""
    base = _base(config, subject)
    return [*_controls(config, base), *_main(config, base, subject)]


def strongest(config: AdaptiveConfig, subject: Subject, eps: int) -> Cell:
    """The attack that checks compare others with: the first of the preset, with full knowledge."""
    return replace(_base(config, subject), attack=config.attacks[0], eps=eps)


def one_step(cell: Cell, config: AdaptiveConfig) -> Cell:
    """FGSM by the same attacker."""
    return probe_of(cell, config, attack="fgsm", steps=0, restarts=1)


def queries_alone(cell: Cell, config: AdaptiveConfig) -> Cell:
    """Square, which asks for logits only; of a random defence each time for one draw."""
    return probe_of(cell, config, attack="square", steps=PROBE_QUERIES, restarts=1, eot=1)


def probe_of(cell: Cell, config: AdaptiveConfig, **changes: object) -> Cell:
    """A cell on the first images alone, with some values changed."""
    values = {"images": min(config.probe, cell.images), **changes}
    return replace(cell, **values)  # type: ignore[arg-type]  # fields of Cell


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
        samples=config.samples if subject.is_random else 1,
        seed=config.seed,
        batch_size=config.batch_size,
        weights=subject.weights,
        pixels=subject.pixels,
    )


def _controls(config: AdaptiveConfig, base: Cell) -> Iterator[Cell]:
    """Clean images, and random noise of each budget's size."""
    control = replace(base, knowledge="none", steps=0, eot=1, restarts=1)
    yield control
    for eps in config.eps:
        yield replace(control, attack=NOISE, eps=eps)


def _main(config: AdaptiveConfig, base: Cell, subject: Subject) -> Iterator[Cell]:
    """The attacks of the preset, and the first of them by attackers who know less."""
    for eps in config.eps:
        first = replace(base, attack=config.attacks[0], eps=eps)
        yield replace(first, knowledge="blind", eot=1)
        if subject.keeps_size:
            yield replace(first, knowledge="straight-through")
        for attack in config.attacks:
            yield replace(base, attack=attack, eps=eps)


def _probes(config: AdaptiveConfig, base: Cell) -> Iterator[Cell]:
    """What the checks need besides, on few images."""
    first = replace(base, attack=config.attacks[0], eps=max(config.eps))
    yield one_step(first, config)
    yield queries_alone(first, config)
    yield probe_of(first, config, eps=LARGE_EPS)
    yield probe_of(first, config, steps=2 * config.steps)
    if base.samples > 1:
        for eot in EOT_LEVELS:
            yield probe_of(first, config, eot=eot, eps=min(config.eps))
