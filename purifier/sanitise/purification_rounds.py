"""Purifies images round after round, and follows their labels and their distance from the originals."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from impure.manifests.base.images import Pixels
from impure.pipeline.targets.target import Target
from impure.pipeline.tensors import to_float, to_pixels, to_uint8
from impure.purifier.defences.base.defence import Defence
from impure.purifier.sanitise.sanitise_config import SanitiseConfig


@dataclass(frozen=True, slots=True)
class ImageRounds:
    """What became of one image.

    Attributes:
        labels: The target's, of the image and after each round.
        chosen: The round, from 1, whose image would be kept; 0 where no round changes the label.
        pixels: That image, uint8 (H, W, 3).
    """

    labels: tuple[int, ...]
    chosen: int
    pixels: Pixels | None


def flips(labels: Sequence[int]) -> int:
    """How many rounds give another label than the image had, from the labels of both."""
    return sum(label != labels[0] for label in labels[1:])


@torch.no_grad()
def purification_rounds(
    defence: Defence, target: Target, images: Tensor, config: SanitiseConfig
) -> list[ImageRounds]:
    """Purify images (B, 3, H, W) in [0, 1] round after round, rounded to 8 bits as they would be stored.

    Of the rounds that change an image's label, the one is chosen whose image is nearest: in pixels and in the
    target's features, each by its Euclidean distance as a share of the largest of all rounds. All images get
    the same noise, so that none depends on its batch.
    """
    states = [images]
    for number in range(config.rounds):
        defence.reseed(config.seed + number, alike=True)
        states.append(to_float(to_uint8(defence(states[-1]))))
    with _features(target) as seen:
        labels = torch.stack([target(state).argmax(1) for state in states], dim=1)  # B, 1 + rounds
    distance = _relative(states) + _relative(seen)  # B, rounds
    distance[labels[:, 1:] == labels[:, :1]] = torch.inf
    chosen = torch.where(distance.isfinite().any(1), distance.argmin(1) + 1, 0).tolist()
    return [
        ImageRounds(
            tuple(labels[row].tolist()),
            number,
            to_pixels(to_uint8(states[number][row, None]))[0] if number else None,
        )
        for row, number in enumerate(chosen)
    ]


def _relative(states: list[Tensor]) -> Tensor:
    """Distances (B, rounds) of later states from the first, as shares of the largest of each image."""
    distance = torch.stack([(state - states[0]).flatten(1).norm(dim=1) for state in states[1:]], dim=1)
    largest = distance.amax(1, keepdim=True)
    return distance / torch.where(largest > 0, largest, 1)


@contextmanager
def _features(target: Target) -> Iterator[list[Tensor]]:
    """Collect what the target's last layer is given, pass by pass."""
    seen: list[Tensor] = []
    layers = [part for part in target.network.modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    hook = layers[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        hook.remove()
