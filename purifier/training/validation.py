"""Validation while a defence is trained: accuracy of the classifiers behind it, and image strips."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from impure.manifests.base.errors import InputError
from impure.manifests.base.files import atomic_path, writing
from impure.manifests.collection.collection import CommittedShard
from impure.manifests.collection.shard_id import CLEAN
from impure.purifier.data.pair_reader import PairReader
from impure.purifier.defences.base.defence import Defence
from impure.purifier.defences.static.none import NoDefence
from impure.purifier.evaluation.image_strips import draw_strips, example
from impure.purifier.evaluation.measure_group import Defended, measure_group, undefended
from impure.purifier.evaluation.predict import Loaded, batch_seed, predict
from impure.purifier.evaluation.scores import Row
from impure.purifier.evaluation.select import Group, select_groups
from impure.purifier.evaluation.validation_table import FILE, NONE, Score, ValidationTable

STRIPS = "validation"  # folder of the image strips
CACHE_BYTES = 1 << 30  # of decoded images


class Validator:
    """Measures a defence in training, on the stored bytes: one sample, always the same.

    Writes `validation.csv` (rows with defence `none` are of the bare classifier, measured once, as epoch 0)
    and `validation/epoch-NNNN.jpg`. Decoded images are kept in memory up to a bound.
    """

    def __init__(
        self,
        shards: Sequence[CommittedShard],
        classifiers: Mapping[str, nn.Module],
        out: Path,
        *,
        images: int,
        batch_size: int,
        device: torch.device,
        seed: int = 0,
        class_names: Sequence[str] = (),
        cache_bytes: int = CACHE_BYTES,
        progress: bool = False,
    ) -> None:
        """Choose the images; nothing is decoded yet.

        Args:
            shards: The shards, of any image sizes.
            classifiers: By the target's name in the shards: RGB in [0,1] in, logits out. They are moved
                to the device and into eval mode.
            out: The run's folder.
            images: At most this many of each target and attack, evenly from the classes.
            batch_size: Images at a time; on which the purifier's noise depends.
            device: Where to compute, in float32; the purifier's.
            seed: Of the purifier's noise.
            class_names: In label order, for the strips; numbers without.
            cache_bytes: Of decoded images to keep; further ones are decoded each time.
            progress: Show a bar on standard error while it measures.

        Raises:
            InputError: A target has no classifier, there are no attacked images, a value is impossible, or
                the `validation.csv` in `out` is damaged or of another validation.
        """
        for name, value, least in (("batch_size", batch_size, 1), ("seed", seed, 0)):
            if value < least:
                raise InputError(f"validation: {name} is {value}; it must be at least {least}")
        self._groups = select_groups(shards, classifiers, images)
        if all(group.attack == CLEAN for group in self._groups):
            raise InputError("the validation shards hold no attacked sample")
        self._classifiers = {
            group.target: classifiers[group.target].to(device).eval() for group in self._groups
        }
        self._batch_size = batch_size
        self._device = device
        self._seed = seed
        self._class_names = class_names
        self._reader = PairReader(cache_bytes)
        self._progress = progress
        self._undefended: list[Defended] = []  # the sample that each group shows
        self._strips = out / STRIPS
        cells = [(group.target, group.attack, len(group.pairs)) for group in self._groups]
        self._table = ValidationTable(out / FILE, cells)

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
        rounds = 1 if self._undefended else 2
        images = rounds * sum(len(group.pairs) for group in self._groups)
        with (
            undisturbed(defence, self._device),
            torch.no_grad(),
            tqdm(total=images, unit="img", desc="validation", leave=False, disable=not self._progress) as bar,
        ):
            if not self._undefended:
                self._measure_undefended(bar.update)
            measured = [self._measure(group, defence, name, bar.update) for group in self._groups]
        score = Score(rows=tuple(row for row, _ in measured))
        self._draw(epoch, [purified for _, purified in measured])
        self._table.put(epoch, name, score.rows)
        return score

    def forget_after(self, epoch: int) -> None:
        """Drop the rows of epochs that a resumed run takes once more.

        Raises:
            WriteError: The file cannot be written.
        """
        self._table.forget_after(epoch)

    def best(self) -> tuple[int, Score] | None:
        """The best epoch so far, earlier parts of the run included, and the latest of equals; or None."""
        return self._table.best()

    def _measure_undefended(self, advance: Callable[[int], object]) -> None:
        """What does not change: accuracy without a defence, and what the strips show of it."""
        self._table.put(
            0, NONE, [self._measure(group, NoDefence(), NONE, advance)[0] for group in self._groups]
        )
        self._undefended = [
            undefended(self._reader, group, self._classifiers[group.target], self._device)
            for group in self._groups
        ]

    def _measure(
        self, group: Group, defence: Defence, name: str, advance: Callable[[int], object]
    ) -> tuple[Row, Defended]:
        """A group's row behind a defence, and the sample that it shows."""
        classifier = self._classifiers[group.target]

        def defend(loaded: Loaded, number: int) -> Defended:
            defence.reseed(batch_seed(self._seed, number, 0))
            images = defence(loaded.attacked)
            logits_of = partial(defence.classify, classifier=classifier)
            defended = Defended({name: images}, {name: predict(logits_of, images)}, {})
            advance(len(images))
            return defended

        measured = measure_group(
            self._reader, group, defend, batch_size=self._batch_size, device=self._device
        )
        row = Row(
            target=group.target,
            attack=group.attack,
            defence=name,
            n=len(group.pairs),
            correct=measured.correct(name),
        )
        return row, measured.shown

    def _draw(self, epoch: int, purified: Sequence[Defended]) -> None:
        """Write the epoch's image strips."""
        examples = [
            example(
                group.target,
                group.attack,
                group.pairs[group.shown],
                bare.images | behind.images,
                bare.predictions | behind.predictions,
            )
            for group, bare, behind in zip(self._groups, self._undefended, purified, strict=True)
        ]
        sheet = draw_strips(examples, self._class_names)
        path = self._strips / f"epoch-{epoch:04d}.jpg"
        with writing(path), atomic_path(path) as temporary:
            sheet.save(temporary, "JPEG", quality=92, subsampling=0)  # there will be a hundred


@contextmanager
def undisturbed(defence: Defence, device: torch.device) -> Iterator[None]:
    """Eval mode inside the block; modes and the global random state as before behind it."""
    modes = [(module, module.training) for module in defence.modules()]
    defence.eval()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
