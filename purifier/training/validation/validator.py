"""What every validation of a defence in training has: images, classifiers and the table."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from impure.manifests.base.errors import InputError
from impure.purifier.data.pair_reader import PairReader
from impure.purifier.defences.base.defence import Defence
from impure.purifier.evaluation.select import Group
from impure.purifier.evaluation.validation_table import Score, ValidationTable

CACHE_BYTES = 1 << 30  # of decoded images


class Validator(ABC):
    """Measures a defence in training, always on the same images, and writes `validation.csv`.

    Rows with defence `none` are of the bare classifier, measured once, as epoch 0.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        classifiers: Mapping[str, nn.Module],
        table: ValidationTable,
        *,
        batch_size: int,
        device: torch.device,
        seed: int,
        progress: bool,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        """Keep what is measured; nothing is decoded yet.

        Args:
            groups: The images.
            classifiers: By the target's name: RGB in [0,1] in, logits out. They are moved to the device and
                into eval mode.
            table: Of the same groups.
            batch_size: Images at a time; on which a random defence's draws depend.
            device: Where to compute, in float32; the defence's.
            seed: Of all random numbers.
            progress: Show a bar on standard error while it measures.
            cache_bytes: Of decoded images to keep; further ones are decoded each time.

        Raises:
            InputError: A value is impossible.
        """
        for name, value, least in (("batch_size", batch_size, 1), ("seed", seed, 0)):
            if value < least:
                raise InputError(f"validation: {name} is {value}; it must be at least {least}")
        self._groups = groups
        self._classifiers = {group.target: classifiers[group.target].to(device).eval() for group in groups}
        self._table = table
        self._batch_size = batch_size
        self._device = device
        self._seed = seed
        self._progress = progress
        self._reader = PairReader(cache_bytes)

    @property
    def images(self) -> int:
        """How many a round over all groups takes."""
        return sum(len(group.pairs) for group in self._groups)

    @abstractmethod
    def __call__(self, defence: Defence, name: str, epoch: int) -> Score:
        """Measure the defence; training goes on as if nothing had happened.

        The prediction for an image that is not finite counts as wrong. Rows of the same epoch are replaced.

        Args:
            defence: On the validator's device. Its mode and the global random state are as before afterwards.
            name: Of the defence, for the table.
            epoch: How many are done.

        Raises:
            InputError: A shard is inconsistent.
            WriteError: A file cannot be written.
        """

    def forget_after(self, epoch: int) -> None:
        """Drop the rows of epochs that a resumed run takes once more.

        Raises:
            WriteError: The file cannot be written.
        """
        self._table.forget_after(epoch)

    def best(self) -> tuple[int, Score] | None:
        """The best epoch so far, earlier parts of the run included, and the latest of equals; or None."""
        return self._table.best()

    def _bar(self, rounds: int) -> Any:
        """A bar for so many rounds over all images."""
        return tqdm(
            total=rounds * self.images, unit="img", desc="validation", leave=False, disable=not self._progress
        )

    @contextmanager
    def _undisturbed(self, defence: Defence) -> Iterator[None]:
        """Eval mode inside the block; modes and the global random state as before behind it."""
        modes = [(module, module.training) for module in defence.modules()]
        defence.eval()
        try:
            with torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else []):
                yield
        finally:
            for module, mode in modes:
                module.training = mode
