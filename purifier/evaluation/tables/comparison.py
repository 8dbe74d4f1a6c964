"""Paired comparison of defences: on which images only one of two is right, and whether that is chance."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from impure.manifests.base.errors import InputError
from impure.manifests.collection.shard_id import CLEAN
from impure.purifier.evaluation.paired import mcnemar, paired_interval

ALL = "all attacks"


class Answer(NamedTuple):
    """What one defence made a target say of one image."""

    target: str
    attack: str
    key: str
    image: str
    label: int
    predicted: int
    right: bool


Identity = tuple[str, str, str, str]
"""Target, attack, digest of the pixels, and the sample's key: "" for a clean image, which several hold."""

AnswerPair = tuple[Answer, Answer]
"""The answers of two defences on the same pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedRow:
    """Two defences on the same images of one attack, or of all.

    Attributes:
        target: The classifier.
        attack: Or `clean`, or `ALL` without clean.
        first: The defence that the other is compared with.
        second: The other.
        n: Pairs of answers.
        both: Of these, both are right.
        only_first: The first alone is right.
        only_second: The second alone is right.
        neither: Both are wrong.
        images: Different photographs.
        first_ahead: Of these, those on which the first is right more often.
        second_ahead: Those on which the second is.
        difference: Mean over the photographs of how much more often the second is right, from -1 to 1.
        low: Lower end of its 95 % interval; see `paired_interval`.
        high: Upper end.
        p: McNemar's exact test on the photographs: with one attack that of its pairs of answers, with several
            the sign test of their sums, as the attacks on a photograph are not independent.
    """

    target: str
    attack: str
    first: str
    second: str
    n: int
    both: int
    only_first: int
    only_second: int
    neither: int
    images: int
    first_ahead: int
    second_ahead: int
    difference: float
    low: float
    high: float
    p: float

    @classmethod
    def of(cls, pairs: Sequence[AnswerPair], attack: str, names: tuple[str, str]) -> "PairedRow":
        """The row of some pairs, at least one, of one target."""
        first = np.array([pair[0].right for pair in pairs])
        second = np.array([pair[1].right for pair in pairs])
        differences = _by_image(second.astype(float) - first, [pair[0].image for pair in pairs])
        ahead = int((differences < 0).sum()), int((differences > 0).sum())
        low, high = paired_interval(differences)
        return cls(
            target=pairs[0][0].target,
            attack=attack,
            first=names[0],
            second=names[1],
            n=len(pairs),
            both=int((first & second).sum()),
            only_first=int((first & ~second).sum()),
            only_second=int((~first & second).sum()),
            neither=int((~first & ~second).sum()),
            images=len(differences),
            first_ahead=ahead[0],
            second_ahead=ahead[1],
            difference=round(float(differences.mean()), 6),
            low=round(low, 6),
            high=round(high, 6),
            p=mcnemar(*ahead),
        )

    def record(self) -> dict[str, Any]:
        """The row as files hold it."""
        return asdict(self)


def _by_image(differences: NDArray[np.float64], images: Sequence[str]) -> NDArray[np.float64]:
    """The mean difference of each photograph."""
    number = np.unique(images, return_inverse=True)[1]
    means: NDArray[np.float64] = np.bincount(number, differences) / np.bincount(number)
    return means


def compare(predictions: pa.Table, first: str, second: str) -> tuple[list[PairedRow], list[AnswerPair]]:
    """Compare two defences on the images that both were shown.

    Args:
        predictions: Of both; see `image_predictions.SCHEMA`.
        first: Name of the one.
        second: Name of the other.

    Returns:
        A row for each target and attack, then for all attacks of the target; and the pairs of answers of
        which one alone is right, in the order of the table.

    Raises:
        InputError: They have no image in common.
    """
    pairs = _pairs(predictions, first, second)
    rows = []
    for target in dict.fromkeys(pair[0].target for pair in pairs):
        of_target = [pair for pair in pairs if pair[0].target == target]
        for attack in dict.fromkeys(pair[0].attack for pair in of_target):
            of_attack = [pair for pair in of_target if pair[0].attack == attack]
            rows.append(PairedRow.of(of_attack, attack, (first, second)))
        if attacked := [pair for pair in of_target if pair[0].attack != CLEAN]:
            rows.append(PairedRow.of(attacked, ALL, (first, second)))
    return rows, [pair for pair in pairs if pair[0].right != pair[1].right]


def _pairs(predictions: pa.Table, first: str, second: str) -> list[AnswerPair]:
    """The answers of two defences on the same pixels, in the order of the first.

    Raises:
        InputError: There are none.
    """
    one, other = _answers(predictions, first), _answers(predictions, second)
    pairs = [(answer, other[identity]) for identity, answer in one.items() if identity in other]
    if not pairs:
        raise InputError(f"{first} and {second} were shown no image in common: their pixels differ")
    return pairs


def _answers(predictions: pa.Table, defence: str) -> dict[Identity, Answer]:
    """A defence's answers by image."""
    rows = predictions.filter(pc.equal(predictions["defence"], defence))
    columns = [rows[name].to_pylist() for name in ("pixels", *Answer._fields)]
    answers: dict[Identity, Answer] = {}
    for pixels, *values in zip(*columns, strict=True):
        given = Answer(*values)
        sample = "" if given.attack == CLEAN else given.key
        answers[given.target, given.attack, pixels, sample] = given
    return answers


def unpaired(predictions: pa.Table, rows: Sequence[PairedRow]) -> int:
    """How many answers of the two defences of some rows had no counterpart."""
    names = pa.array({rows[0].first, rows[0].second})
    total = int(pc.sum(pc.is_in(predictions["defence"], names)).as_py())
    return total - 2 * sum(row.n for row in rows if row.attack != ALL)
