"""Validation while a purifier is trained: accuracy of the targets behind it, and image strips."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from impure.manifests.base.errors import InputError
from impure.manifests.base.files import atomic_path, writing
from impure.manifests.collection.collection import CommittedShard
from impure.manifests.collection.shard_id import CLEAN
from impure.purifier.data.pair_reader import PairReader
from impure.purifier.evaluation.image_strips import draw_strips, example
from impure.purifier.evaluation.predict import batch_seed, load, predict
from impure.purifier.evaluation.scores import Row
from impure.purifier.evaluation.select import Group, batches, select_groups
from impure.purifier.evaluation.validation_table import FILE, NONE, PURIFIER, Score, ValidationTable
from impure.purifier.riae.model import RIAE

STRIPS = "validation"  # folder of the image strips
CACHE_BYTES = 1 << 30  # of decoded images

Shown = tuple[dict[str, Tensor], dict[str, Tensor]]  # one image (1, 3, H, W) and its answer (1,), by name


class Validator:
    """Measures a purifier in training on the stored bytes: uniform partition, one sample, always the same.

    Writes `validation.csv` (rows with defence `none` are of the bare target, measured once, as epoch 0) and
    `validation/epoch-NNNN.jpg`. Decoded images are kept in memory up to a bound.
    """

    def __init__(
        self,
        shards: Sequence[CommittedShard],
        targets: Mapping[str, nn.Module],
        out: Path,
        *,
        images: int = 200,
        batch_size: int,
        device: torch.device,
        seed: int = 0,
        class_names: Sequence[str] = (),
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        """Choose the images; nothing is decoded yet.

        Args:
            shards: The shards, of any image sizes.
            targets: Classifier by the name that it has in the shards: RGB in [0,1] in, logits out. They are
                moved to the device and into eval mode.
            out: The run's folder.
            images: At most this many of each target and attack, evenly from the classes.
            batch_size: Images at a time; on which the purifier's noise depends.
            device: Where to compute, in float32; the purifier's.
            seed: Of the purifier's noise.
            class_names: In label order, for the strips; numbers without.
            cache_bytes: Of decoded images to keep; further ones are decoded each time.

        Raises:
            InputError: A target is not given, there are no attacked images, a value is impossible, or the
                `validation.csv` in `out` is damaged or of another validation.
        """
        for name, value, least in (("batch_size", batch_size, 1), ("seed", seed, 0)):
            if value < least:
                raise InputError(f"validation: {name} is {value}; it must be at least {least}")
        self._groups = select_groups(shards, targets, images)
        if all(group.attack == CLEAN for group in self._groups):
            raise InputError("the validation shards hold no attacked sample")
        self._targets = {group.target: targets[group.target].to(device).eval() for group in self._groups}
        self._batch_size, self._device, self._seed = batch_size, device, seed
        self._class_names = class_names
        self._reader = PairReader(cache_bytes)
        self._bare: list[Shown] = []  # each group's first sample without a defence
        self._strips = out / STRIPS
        cells = [(group.target, group.attack, len(group.pairs)) for group in self._groups]
        self._table = ValidationTable(out / FILE, cells)

    def __call__(self, riae: RIAE, epoch: int) -> Score:
        """Measure the purifier; training goes on as if nothing had happened.

        An image that is not finite counts as a wrong answer. Rows of the same epoch are replaced.

        Args:
            riae: On the validator's device. Its mode and the global random state are as before afterwards.
            epoch: How many are done.

        Raises:
            InputError: A shard is inconsistent.
            WriteError: A file cannot be written.
        """
        with _undisturbed(riae, self._device), torch.no_grad():
            if not self._bare:
                self._measure_bare()
            found = [self._judge(group, PURIFIER, self._purifier(riae)) for group in self._groups]
        score = Score(rows=tuple(row for row, _ in found))
        self._draw(epoch, [shown for _, shown in found])
        self._table.put(epoch, PURIFIER, score.rows)
        return score

    def forget_after(self, epoch: int) -> None:
        """Drop the rows of epochs that a resumed run takes once more.

        Raises:
            WriteError: The file cannot be written.
        """
        self._table.forget_after(epoch)

    def best(self) -> tuple[int, Score] | None:
        """The best epoch so far, earlier parts of the run included, and the earliest of equals; or None."""
        return self._table.best()

    def _measure_bare(self) -> None:
        """What does not change: accuracy without a defence, and the answers that the strips show."""
        judged = [self._judge(group, NONE, lambda images, _: images) for group in self._groups]
        self._table.put(0, NONE, [row for row, _ in judged])
        self._bare = [self._first(group) for group in self._groups]

    def _first(self, group: Group) -> Shown:
        """A group's first sample, clean and attacked, with the target's answers."""
        loaded = load(self._reader, group.pairs[:1], group.attack, self._device)
        images = {"clean": loaded.clean, "adversarial": loaded.attacked}
        return images, {name: predict(self._targets[group.target], each) for name, each in images.items()}

    def _purifier(self, riae: RIAE) -> Callable[[Tensor, int], Tensor]:
        """Purifies batch i of any group with the same noise every time."""
        return lambda images, index: riae.purify(images, seed=batch_seed(self._seed, index, 0))

    def _judge(
        self, group: Group, defence: str, defend: Callable[[Tensor, int], Tensor]
    ) -> tuple[Row, Shown]:
        """A group's row, and its first image defended with the answer to it."""
        correct = torch.zeros((), dtype=torch.int64, device=self._device)
        shown: Shown = {}, {}
        for index, batch in enumerate(batches(group.pairs, self._batch_size)):
            loaded = load(self._reader, batch, group.attack, self._device)
            defended = defend(loaded.attacked, index)
            answers = predict(self._targets[group.target], defended)
            correct += (answers == loaded.labels).sum()
            if index == 0:
                shown = {defence: defended[:1]}, {defence: answers[:1]}
        row = Row(
            target=group.target,
            attack=group.attack,
            defence=defence,
            n=len(group.pairs),
            correct=int(correct),
        )
        return row, shown

    def _draw(self, epoch: int, defended: Sequence[Shown]) -> None:
        """Write the epoch's image strips."""
        sheet = draw_strips(
            [
                example(group.target, group.attack, group.pairs[0], images | more, answers | further)
                for group, (images, answers), (more, further) in zip(
                    self._groups, self._bare, defended, strict=True
                )
            ],
            self._class_names,
        )
        path = self._strips / f"epoch-{epoch:04d}.jpg"
        with writing(path), atomic_path(path) as temporary:
            sheet.save(temporary, "JPEG", quality=92, subsampling=0)  # there will be a hundred


@contextmanager
def _undisturbed(riae: RIAE, device: torch.device) -> Iterator[None]:
    """Eval mode inside the block; modes and the global random state as before behind it."""
    modes = [(module, module.training) for module in riae.modules()]
    riae.eval()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
