"""Attacks one batch through a defence, and asks for the verdict on the stored bytes with fresh draws."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.attack_registry import ATTACKS
from impure.pipeline.attacks.engine.rng import KeyedRng
from impure.pipeline.attacks.run_attack import attack_batch
from impure.pipeline.tensors import to_float
from impure.purifier.data.pair_reader import PairReader
from impure.purifier.data.pairs import Pair
from impure.purifier.defences.base.defence import Defence
from impure.purifier.evaluation.adaptive.adaptive_config import CLEAN, NOISE, Cell
from impure.purifier.evaluation.adaptive.attacked_defence import AttackedDefence, draw_seed
from impure.purifier.evaluation.adaptive.cells import QUERIES_A_STEP
from impure.purifier.evaluation.predict import predict

ATTACK, VERDICT = 0, 1  # streams of draws: those of the verdict are fresh


class LabelledImages(NamedTuple):
    """A batch on the device.

    Attributes:
        clean: uint8 RGB (B, 3, H, W).
        labels: True classes (B,).
        ids: The images' names, for random starts.
    """

    clean: Tensor
    labels: Tensor
    ids: Sequence[str]

    @classmethod
    def read(cls, reader: PairReader, pairs: Sequence[Pair], device: torch.device) -> "LabelledImages":
        """The clean images of some pairs, all of one size."""
        clean = torch.stack([reader.clean(pair) for pair in pairs]).to(device)
        labels = torch.tensor([pair.label for pair in pairs], device=device)
        return cls(clean, labels, [pair.clean_sha256 for pair in pairs])


@dataclass(frozen=True, slots=True, kw_only=True)
class CellBatch:
    """What came of one batch.

    Attributes:
        predictions: Classes of the attacked images, stored as 8 bits, behind each draw (draws, B).
        linf_255: Largest change of each image, in units of 1/255 (B,).
        grad_evals: Gradients that the attack took of each image, each of `eot` draws (B,).
        passes: Forward passes of an image, those of gradients among them; the mean of the batch.
        seconds: Of the attack, for each image.
    """

    predictions: Tensor
    linf_255: Tensor
    grad_evals: Tensor
    passes: float
    seconds: float


class Attacked(NamedTuple):
    """What an attack leaves of a batch.

    Attributes:
        images: uint8 RGB (B, 3, H, W).
        grad_evals: Gradients taken of each (B,).
        passes: Forward passes of the batch, in images.
    """

    images: Tensor
    grad_evals: Tensor
    passes: int = 0


def run_batch(
    cell: Cell,
    number: int,
    defence: Defence,
    classifier: nn.Module,
    images: LabelledImages,
) -> CellBatch:
    """Attack a batch of a cell.

    Args:
        cell: Which attack, by whom, on what.
        number: Of the batch; it and the cell's seed decide all draws.
        defence: In eval mode, on the images' device.
        classifier: The target, likewise.
        images: What is attacked.

    Raises:
        AttackError: Target or attack gave NaN.
        InputError: The attack cannot be run on this target or through this defence.
    """
    started_at = time.perf_counter()
    attacked = attack_images(cell, number, defence, classifier, images)
    seconds = (time.perf_counter() - started_at) / len(images.clean)
    change = (attacked.images.short() - images.clean.short()).abs().flatten(1).amax(1)
    return CellBatch(
        predictions=verdicts(cell, number, defence, classifier, attacked.images),
        linf_255=change,
        grad_evals=attacked.grad_evals,
        passes=attacked.passes / len(images.clean),
        seconds=seconds,
    )


def attack_images(
    cell: Cell, number: int, defence: Defence, classifier: nn.Module, images: LabelledImages
) -> Attacked:
    """The attacked images of a batch; see `run_batch`."""
    if cell.attack in (CLEAN, NOISE):
        return Attacked(_control(cell, images), torch.zeros_like(images.labels))
    config = AttackConfig(name=cell.attack, eps_255=cell.eps, overrides=_length(cell), restarts=cell.restarts)
    stream = VERDICT if cell.knowledge == "draws" else ATTACK
    model = AttackedDefence(defence, classifier, cell.knowledge, draw_seed(cell.seed, number, stream))
    done = attack_batch(config, model, *images, cell.seed, eot=cell.eot, dtype=torch.float32)
    return Attacked(done.adversarial, done.grad_evals, model.passes)


def _length(cell: Cell) -> tuple[tuple[str, int], ...]:
    """The parameters of an attack that say how long it goes on."""
    known = ATTACKS[cell.attack].paper if cell.attack in ATTACKS else {}
    lengths = {"steps": cell.steps, "queries": QUERIES_A_STEP * cell.steps}
    return tuple((name, length) for name, length in lengths.items() if name in known)


def _control(cell: Cell, images: LabelledImages) -> Tensor:
    """The images as they are, or with the budget in random directions."""
    if cell.attack == CLEAN:
        return images.clean
    rng = KeyedRng(seed=cell.seed, attack=NOISE, source_ids=tuple(images.ids))
    signs = (rng.uniform("sign", images.clean.shape[1:]) < 0.5).to(images.clean.device)
    return (images.clean.short() + cell.eps * (2 * signs.short() - 1)).clamp(0, 255).to(torch.uint8)


@torch.no_grad()
def verdicts(cell: Cell, number: int, defence: Defence, classifier: nn.Module, attacked: Tensor) -> Tensor:
    """Classes of images, uint8 (B, 3, H, W), behind fresh draws of the defence: (draws, B).

    Where the attacker knew the draw it is that one, the same for all images.
    """
    images = to_float(attacked)
    logits_of = partial(defence.classify, classifier=classifier)
    predictions = []
    for draw in range(cell.samples):
        if cell.knowledge == "draws":
            defence.reseed(draw_seed(cell.seed, number, VERDICT), alike=True)
        else:
            defence.reseed(draw_seed(cell.seed, number, VERDICT, draw))
        predictions.append(predict(logits_of, defence(images)))
    return torch.stack(predictions)
