"""Rebuild: a `delta` collection's perturbations and one's own photographs become pairs again.

Nothing is taken on trust: clean pixels have to hash to what the manifest says before the perturbation is
added, adversarial ones afterwards.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache, partial
from itertools import chain, groupby
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from impure.manifests.base.canonical_json import from_mapping
from impure.manifests.base.errors import InputError
from impure.manifests.base.files import atomic_path
from impure.manifests.base.images import Pixels, px_sha256
from impure.manifests.collection.collection import Collection, CommittedShard
from impure.manifests.collection.commit import find_committed
from impure.manifests.collection.samples import Sample, SampleIndex, Stored, index_shard, read_stored
from impure.manifests.collection.schema import CHANGED, FAILED, STATUS_OK, Row
from impure.manifests.collection.shard_id import ShardId
from impure.manifests.collection.storage import Storage, change_of
from impure.manifests.collection.storage_profiles import DELTA
from impure.pipeline.generation.sample_config import SPLITS_OF
from impure.pipeline.sources.source import Source, SourceImage
from impure.pipeline.targets.preprocess import CleanImage, load_clean
from impure.pipeline.targets.target_card import TargetCard

_AT_ONCE = 32  # images put together ahead of the writer

RowOutcome = tuple[Sample | None, Row]
"""What became of a manifest's row: the pair to store, or None and the row says why."""

Write = Callable[[ShardId, Iterator[RowOutcome], dict[str, Any]], object]
"""Stores and commits a shard under a config: samples and rows in order, numbered anew."""

Load = Callable[[TargetCard, str], CleanImage]
"""The photograph of a source id as a target sees it, or why it cannot be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What became of one shard.

    Attributes:
        stored: Pairs that were put together; where there is none, the shard was not written.
        lost: Why others could not be, by source id.
        resumed: It had been rebuilt before, and nothing was lost.
    """

    shard_id: ShardId
    stored: int
    lost: dict[str, str]
    resumed: bool


def rebuild(
    collection: Collection,
    source: Source,
    out: Collection,
    storage: Storage,
    write: Write,
    progress: Callable[[int], object] = lambda count: None,
) -> Iterator[Rebuilt]:
    """Rebuild every `delta` shard of a collection into another collection. Killed, the same call goes on.

    The photographs of a shard are decoded once for all attacks, with the preprocessing of the target that the
    markers describe; its weights are not needed.

    Args:
        collection: Perturbations.
        source: The receiver's own photographs.
        out: Where to; its plans and collection.json become those of `collection`.
        storage: How the pairs are stored there.
        write: Called once for each shard of which at least one pair could be put together.
        progress: Called with the number of images done, as they are done.

    Yields:
        One result for each shard, in order.

    Raises:
        InputError: There is nothing to rebuild, a shard is damaged, or `out` holds something else.
    """
    shards = [shard for shard in collection.committed if shard.storage.profile == DELTA]
    if not shards:
        raise InputError(f"{collection.root}: holds no perturbations to rebuild pairs from")
    if storage.profile == DELTA or out.root.resolve() == collection.root.resolve():
        raise InputError(f"{out.root}: pairs are rebuilt into another folder, as pairs or clean-once")
    _copy_description(collection, out)
    photographs = cache(partial(_photographs, source))
    for (_, split, _), of_images in groupby(sorted(shards, key=_images_of), key=_images_of):
        load = cache(photographs(split).load)
        for shard in of_images:
            yield _rebuild_shard(shard, load, out, storage, write, progress)


def _images_of(committed: CommittedShard) -> tuple[str, str, int]:
    """What the shards of all attacks on one set of images have in common."""
    return committed.shard_id.target, committed.shard_id.split, committed.shard_id.number


def _copy_description(collection: Collection, out: Collection) -> None:
    """Copy plans and collection.json.

    Raises:
        InputError: Others lie there.
    """
    plans = [f"plans/{name}.parquet" for name in collection.plans()]
    for name in [*plans, *(["collection.json"] if collection.about_path.exists() else [])]:
        data = (collection.root / name).read_bytes()
        destination = out.root / name
        if destination.exists() and destination.read_bytes() != data:
            raise InputError(f"{destination}: of another collection; choose another --out")
        with atomic_path(destination) as path:
            path.write_bytes(data)


@dataclass(frozen=True)
class _Photographs:
    """The receiver's photographs of one split, by source id and, where it is unique, by file name."""

    source: Source
    images: dict[str, SourceImage]
    missing: str

    def load(self, card: TargetCard, source_id: str) -> CleanImage:
        """Decode a photograph; folders may be arranged differently here, so its file name will do."""
        image = self.images.get(source_id) or self.images.get(PurePosixPath(source_id).name)
        if image is None:
            return CleanImage(SourceImage(source_id, ""), None, "", self.missing)
        return load_clean(self.source, image, card)


def _photographs(source: Source, split: str) -> _Photographs:
    """List the photographs that a collection's split was drawn from."""
    try:
        images = source.images(next(name for name, splits in SPLITS_OF.items() if split in splits))
    except InputError as error:
        return _Photographs(source, {}, str(error))
    files = [PurePosixPath(image.source_id).name for image in images]
    count = Counter(files)
    named = {file: image for file, image in zip(files, images, strict=True) if count[file] == 1}
    named |= {image.source_id: image for image in images}
    return _Photographs(source, named, f"not among the {len(images)} images of {source.name}")


def _rebuild_shard(
    committed: CommittedShard,
    load: Load,
    out: Collection,
    storage: Storage,
    write: Write,
    progress: Callable[[int], object],
) -> Rebuilt:
    """Rebuild one shard, unless it was before."""
    config = {**committed.marker["config"], "storage": asdict(storage)}
    stored = committed.marker["counts"]["stored"]
    rebuilt = find_committed(out, committed.shard_id, config)
    if rebuilt and rebuilt.marker["counts"]["stored"] == stored:
        progress(rebuilt.marker["counts"]["planned"])
        return Rebuilt(shard_id=committed.shard_id, stored=stored, lost={}, resumed=True)
    samples = _index(committed)
    lost: dict[str, str] = {}
    outcomes = _from_first_pair(_outcomes(committed, samples, load, lost, progress))
    if outcomes is not None:
        # A marker that is there vouches for fewer pairs: photographs that were lost then may be there now.
        out.marker_path(committed.shard_id).unlink(missing_ok=True)
        write(committed.shard_id, outcomes, config)
    return Rebuilt(shard_id=committed.shard_id, stored=len(samples) - len(lost), lost=lost, resumed=False)


def _index(committed: CommittedShard) -> dict[str, SampleIndex]:
    """A shard's samples by key, in the order of its manifest."""
    columns = ("key", "source_id", "label", "clean_px_sha256", "adv_px_sha256")
    keys = [row["key"] for row in committed.stored_rows(*columns)]
    samples = {sample.key: sample for sample in index_shard(committed.tar)}
    if keys != list(samples) or any("delta" not in sample.members for sample in samples.values()):
        raise InputError(
            f"{committed.tar}: does not hold the perturbations that its manifest lists; fetch it again"
        )
    return samples


def _from_first_pair(outcomes: Iterator[RowOutcome]) -> Iterator[RowOutcome] | None:
    """All outcomes; None where there is no pair among them, as with the wrong folder of photographs."""
    lost: list[RowOutcome] = []
    for outcome in outcomes:
        sample, _ = outcome
        if sample is not None:
            return chain(lost, [outcome], outcomes)
        lost.append(outcome)
    return None


def _outcomes(
    committed: CommittedShard,
    samples: dict[str, SampleIndex],
    load: Load,
    lost: dict[str, str],
    progress: Callable[[int], object],
) -> Iterator[RowOutcome]:
    """Put a shard's pairs together, row by row, a few ahead; puts into `lost` why one fails."""
    rows = committed.rows()[0].to_pylist()
    pair_of = partial(_pair, _card(committed), samples, load)
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(rows), _AT_ONCE):
            batch = rows[start : start + _AT_ONCE]
            for row, pair in zip(batch, pool.map(pair_of, batch), strict=True):
                yield _outcome(row, pair, lost)
            progress(len(batch))


def _outcome(row: Row, pair: Sample | Row, lost: dict[str, str]) -> RowOutcome:
    """A row's pair, or the row that says why there is none; puts into `lost` why where there was one."""
    if isinstance(pair, Sample):
        return pair, row
    if row["status"] != STATUS_OK:
        return None, row
    lost[row["source_id"]] = pair["error"]
    return None, {**row, **pair}


def _pair(card: TargetCard, samples: dict[str, SampleIndex], load: Load, row: Row) -> Sample | Row:
    """The pair of a row, or the columns that say why there is none."""
    if row["status"] != STATUS_OK:
        return row
    photograph = load(card, row["source_id"])
    if photograph.pixels is None:
        return {"status": FAILED, "error": photograph.error}
    if px_sha256(photograph.pixels) != row["clean_px_sha256"]:
        why = "other pixels than the perturbation was made for: another file, or another JPEG decoder"
        return {"status": CHANGED, "error": why}
    try:
        stored = read_stored(samples[row["key"]])
    except InputError:  # whose text holds this machine's paths, and manifests are shared
        return {"status": FAILED, "error": "its stored perturbation cannot be read; fetch it again"}
    adversarial = _add(photograph.pixels, stored)
    if adversarial is None or px_sha256(adversarial) != row["adv_px_sha256"] or stored.label != row["label"]:
        return {"status": FAILED, "error": "its perturbation or label is not the manifest's; fetch it again"}
    return Sample(stored.key, photograph.pixels, adversarial, stored.label, stored.meta)


def _add(clean: Pixels, stored: Stored) -> Pixels | None:
    """The adversarial image (H, W, 3); None where the perturbation is of another size."""
    change = change_of(stored)
    return np.clip(clean + change, 0, 255).astype(np.uint8) if clean.shape == change.shape else None


def _card(committed: CommittedShard) -> TargetCard:
    """The target that a shard was made on, as its marker describes it."""
    described = {**committed.marker["config"]["target"], "weights": ""}
    return from_mapping(TargetCard, described, f"{committed.shard_id}: target in its marker")
