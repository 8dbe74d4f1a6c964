"""Which stored pairs are evaluated, and in which batches."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import nn
from tqdm import tqdm

from impure.manifests.base.canonical_json import digest
from impure.manifests.base.errors import InputError
from impure.manifests.collection.collection import CommittedShard
from impure.manifests.collection.shard_id import CLEAN
from impure.pipeline.attacks.attack_names import PAPER_ATTACKS
from impure.purifier.data.pairs import Pair, list_pairs, pairs_digest

#: Order of the attacks in the paper's Table 1; others follow by name.
TABLE_ORDER = (CLEAN, *PAPER_ATTACKS)


class Group(NamedTuple):
    """The samples of one target and one attack; of `clean` each distinct clean image once.

    `shown` is the sample that image strips show: in each group of a target another one.
    """

    target: str
    attack: str
    pairs: Sequence[Pair]
    shown: int = 0


def select_groups(
    shards: Sequence[CommittedShard], classifiers: Mapping[str, nn.Module], limit: int | None = None
) -> list[Group]:
    """The groups to evaluate, by target and in the order of Table 1, `clean` first.

    Args:
        shards: The shards.
        classifiers: By the names of their targets in the shards.
        limit: At most this many samples of a group (see `evenly`).

    Raises:
        InputError: There is no sample, `limit` is below 1, or a target has no classifier.
    """
    if limit is not None and limit < 1:
        raise InputError(f"at most {limit} images of an attack are none to evaluate; allow at least 1")
    pairs = list_pairs(shards)
    if not pairs:
        raise InputError("nothing to evaluate: the chosen shards hold no sample")
    groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs.distinct_clean():
        groups.setdefault((pair.shard.shard_id.target, CLEAN), []).append(pair)
    for pair in pairs.attacked():
        groups.setdefault((pair.shard.shard_id.target, pair.shard.shard_id.attack), []).append(pair)
    if missing := sorted({target for target, _ in groups} - classifiers.keys()):
        given = ", ".join(classifiers) or "none"
        raise InputError(f"the shards are of target {missing[0]!r}; given are {given}")
    order = sorted(groups, key=lambda key: (key[0], _table_place(key[1])))
    chosen = {key: evenly(groups[key], limit) for key in order}
    attacks = {target: [attack for name, attack in order if name == target] for target, _ in order}
    return [
        Group(target, attack, pairs, attacks[target].index(attack) * len(pairs) // len(attacks[target]))
        for (target, attack), pairs in chosen.items()
    ]


def attacked_groups(
    shards: Sequence[CommittedShard], classifiers: Mapping[str, nn.Module], limit: int | None = None
) -> list[Group]:
    """The groups of `select_groups` without the clean images.

    Raises:
        InputError: See `select_groups`, or there is no attacked image.
    """
    groups = [group for group in select_groups(shards, classifiers, limit) if group.attack != CLEAN]
    if not groups:
        raise InputError("the chosen shards hold no attacked image")
    return groups


@contextmanager
def group_bar(
    groups: Sequence[Group], *, progress: bool
) -> Iterator[Callable[[Group], Callable[[int], object]]]:
    """A bar on standard error over the images of some groups; `progress` shows it.

    Yields what names the group that begins, and gives the function that moves the bar. However the block
    ends, the bar's line is ended, so that an error has one of its own.
    """
    total = sum(len(group.pairs) for group in groups)
    with tqdm(total=total, unit="img", disable=not progress) as bar:

        def begin(group: Group) -> Callable[[int], object]:
            bar.set_postfix_str(f"{group.target} {group.attack}")
            return bar.update

        yield begin


def _table_place(attack: str) -> tuple[int, str]:
    """Sort key of an attack's column."""
    return TABLE_ORDER.index(attack) if attack in TABLE_ORDER else len(TABLE_ORDER), attack


def evenly(pairs: Sequence[Pair], limit: int | None) -> Sequence[Pair]:
    """At most `limit` pairs in their order, evenly from all classes; attacks of one image set give the same.

    Steps go through the pairs by class and hash, not as they are stored: there classes may take turns, and
    every fifth pair be of two classes alone.
    """
    if limit is None or limit >= len(pairs):
        return pairs
    order = sorted(range(len(pairs)), key=lambda index: (pairs[index].label, pairs[index].clean_sha256))
    return [pairs[index] for index in sorted(order[step * len(order) // limit] for step in range(limit))]


def line_names(cells: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """What lines of a table are called, by target and attack: the target is named where there are several."""
    keys = dict.fromkeys(cells)
    several = len({target for target, _ in keys}) > 1
    return {(target, attack): f"{target}: {attack}" if several else attack for target, attack in keys}


def describe_groups(shards: Sequence[CommittedShard], groups: Sequence[Group]) -> dict[str, Any]:
    """What identifies the images that are measured on, for a report's conditions.

    Args:
        shards: Those that the groups were chosen from.
        groups: See `select_groups`.
    """
    pairs = [pair for group in groups for pair in group.pairs]
    return {
        "splits": sorted({pair.shard.shard_id.split for pair in pairs}),
        "pixels_sha256": pairs_digest(pairs),
        "collections": sorted({digest(shard.rows()[1]) for shard in shards}),
    }


def batches(pairs: Sequence[Pair], size: int) -> Iterator[list[Pair]]:
    """Batches of one image size, in the given order."""
    batch: list[Pair] = []
    for pair in pairs:
        full = len(batch) == size
        if batch and (full or (pair.height, pair.width) != (batch[0].height, batch[0].width)):
            yield batch
            batch = []
        batch.append(pair)
    if batch:
        yield batch
