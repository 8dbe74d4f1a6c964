"""Pre-training on clean photographs: random crops that the purifier has to reproduce."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from impure.manifests.base.errors import InputError, first_line
from impure.purifier.data.dataset import Batch
from impure.purifier.data.sampler import BatchSplit

LEAST_SIDE = 160  # pixels, of crops
MOST_SIDE = 320
SCALE = (0.2, 1.0)  # crop's fraction of the photograph's area: MAE (He et al. 2022, appendix A.1)
RATIO = (3 / 4, 4 / 3)  # crop's width by height
TRIES = 10  # crops drawn before one that fits is made
STAND_INS = 100  # unreadable photographs in a row after which it is the disk that is broken


class PhotoMicroBatch(NamedTuple):
    """Some photographs of an update's global batch, to be cropped: what one rank computes at a time.

    Attributes:
        indices: Of the photographs.
        weight: Their number divided by the global batch's.
        side: Of their crops, pixels; the same in the whole global batch.
        seed: With an index, what decides a photograph's crop.
    """

    indices: list[int]
    weight: float
    side: int
    seed: tuple[int, int]


def photo_sides(multiple: int) -> list[int]:
    """Sides that crops of photographs may have: 160 to 320 pixels, as far as a network can take them.

    Raises:
        InputError: It can take none.
    """
    sides = list(range(-(-LEAST_SIDE // multiple) * multiple, MOST_SIDE + 1, multiple))
    if not sides:
        raise InputError(
            f"no multiple of the network's {multiple} pixels lies between {LEAST_SIDE} and {MOST_SIDE}; "
            "pre-train a network with smaller patches"
        )
    return sides


class PhotoSampler(Sampler[PhotoMicroBatch]):
    """Micro-batches of photographs in an order that depends on (seed, epoch) alone; every one once.

    Set `epoch` and `start` before iterating; `start` updates are passed over, for resuming inside an epoch.

    Attributes:
        steps: Updates in a whole epoch.
        epoch: From 0.
        start: Updates to pass over.
    """

    def __init__(self, count: int, split: BatchSplit, *, sides: Sequence[int], seed: int) -> None:
        """Cut the epoch into batches.

        Args:
            count: Of the photographs.
            split: How batches are split.
            sides: Of crops, pixels; each batch draws one (see `photo_sides`).
            seed: Of order, sides and crops.

        Raises:
            InputError: There is no photograph, or too few for ranks and micro-batches.
        """
        if count < 1:
            raise InputError("there is no photograph to pre-train on")
        self._cuts = split.batches(count, "photographs")
        self._split = split
        self._sides = list(sides)
        self._seed = seed
        self.steps = len(self._cuts) - 1
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        return (self.steps - self.start) * self._split.grad_accum

    def __iter__(self) -> Iterator[PhotoMicroBatch]:
        seed = (self._seed, self.epoch)
        order = np.random.default_rng(seed)
        batches = np.split(order.permutation(self._cuts[-1]), self._cuts[1:-1])
        sides = order.choice(self._sides, len(batches)).tolist()
        return (
            PhotoMicroBatch(*micro_batch, side=side, seed=seed)
            for batch, side in list(zip(batches, sides, strict=True))[self.start :]
            for micro_batch in self._split.micro_batches(batch)
        )


class PhotoDataset(Dataset[Batch]):
    """Random crops of photographs, each paired with itself."""

    def __init__(self, load: Callable[[int], Image.Image], count: int) -> None:
        """Read nothing yet.

        Args:
            load: Decodes the photograph with an index, to RGB; raises InputError, naming it, where it cannot.
            count: Of the photographs.
        """
        self._load = load
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitems__(self, micro_batch: PhotoMicroBatch) -> Batch:
        """Crops of a micro-batch's photographs; for one that cannot be read the next one stands in.

        Raises:
            InputError: None of `STAND_INS` photographs in a row can be read.
        """
        skipped: list[str] = []
        crops = torch.stack([self._crop(index, micro_batch, skipped) for index in micro_batch.indices])
        rows, unknown = torch.arange(len(crops)), torch.full((len(crops),), -1)
        return Batch(crops, crops, rows, micro_batch.weight, unknown, tuple(skipped))

    def _crop(self, index: int, micro_batch: PhotoMicroBatch, skipped: list[str]) -> Tensor:
        """One photograph's crop, uint8 (3, side, side)."""
        stream = np.random.SeedSequence(micro_batch.seed, spawn_key=(index,))
        picture = self._readable(index, skipped)
        crop = random_crop(picture, micro_batch.side, np.random.default_rng(stream))
        return torch.from_numpy(np.array(crop)).permute(2, 0, 1)

    def _readable(self, index: int, skipped: list[str]) -> Image.Image:
        """The photograph, or the first behind it that can be read; why others cannot goes into `skipped`."""
        for step in range(STAND_INS):
            at = (index + step) % self._count
            try:
                return self._load(at)
            except InputError as error:
                skipped.append(str(error))
            except OSError as error:
                skipped.append(f"photograph {at}: cannot be read ({first_line(error)})")
        raise InputError(f"none of {STAND_INS} photographs in a row can be read; the last: {skipped[-1]}")


def random_crop(picture: Image.Image, side: int, generator: np.random.Generator) -> Image.Image:
    """A random window of an RGB picture, resized (bicubic) to a square and mirrored every other time.

    The window has a fraction of the picture's area in `SCALE`, and a ratio of its sides in `RATIO`, uniform
    in its logarithm (Szegedy et al. 2015). Where none of `TRIES` fits into the picture, it is the largest
    central one of such a ratio.

    Args:
        picture: The photograph, RGB.
        side: Of the result, pixels.
        generator: Source of the window.
    """
    size = np.array(picture.size)
    least, most = np.log(RATIO)
    ratio = np.exp(generator.uniform(least, most, TRIES))
    area = generator.uniform(*SCALE, TRIES) * size.prod()
    windows = np.sqrt([area * ratio, area / ratio]).round().T.clip(1)  # TRIES, (width, height)
    fits = (windows <= size).all(1)
    window, place = windows[fits.argmax()], generator.uniform(size=2)
    if not fits.any():
        window, place = np.minimum(size, (size[::-1] * (RATIO[1], 1 / RATIO[0])).round()), np.full(2, 0.5)
    corner = np.floor(place * (size - window + 1))
    box = (*corner.tolist(), *(corner + window).tolist())
    crop = picture.resize((side, side), Image.Resampling.BICUBIC, box=box)
    return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if generator.random() < 0.5 else crop
