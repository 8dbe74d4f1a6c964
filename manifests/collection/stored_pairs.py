"""Read the pairs of a shard, wherever their images lie: in its own tar, or the clean ones in another's."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from impure.manifests.base.errors import InputError
from impure.manifests.base.tar import Member
from impure.manifests.collection.collection import Collection, CommittedShard
from impure.manifests.collection.samples import Sample, SampleIndex, index_shard, read_sample
from impure.manifests.collection.shard_id import CLEAN, stem_of


def index_stored_samples(committed: CommittedShard) -> list[SampleIndex]:
    """List a shard's samples, with members that lie in another shard's tar; perturbations stay as they are.

    Raises:
        InputError: A shard is damaged (see `index_shard`), or clean images are missing.
    """
    samples = index_shard(committed.local_tar())
    if not samples or "adv" not in samples[0].members or "clean" in samples[0].members:
        return samples
    clean = _clean_members(committed)
    if lacking := [sample.key for sample in samples if stem_of(sample.key) not in clean]:
        raise InputError(
            f"{committed.tar}: the clean image of sample {lacking[0]!r} is not in the clean shard "
            f"{_clean_tar(committed)}; {_remedy(committed)}"
        )
    return [
        replace(sample, members={"clean": clean[stem_of(sample.key)], **sample.members}) for sample in samples
    ]


def index_pairs(committed: CommittedShard) -> list[SampleIndex]:
    """List a shard's samples as whole pairs, wherever their members lie; `read_sample` reads each.

    Raises:
        InputError: The shard holds perturbations only, or see `index_stored_samples`.
    """
    samples = index_stored_samples(committed)
    if samples and "delta" in samples[0].members:
        raise InputError(
            f"{committed.tar}: holds perturbations without images; "
            f"run `impure-data rebuild {committed.root} --images IMAGENET` first"
        )
    return samples


def read_pairs(committed: CommittedShard) -> Iterator[Sample]:
    """Read every pair of a shard in order, one at a time (see `index_pairs` and `samples.read_sample`)."""
    return map(read_sample, index_pairs(committed))


def _clean_members(committed: CommittedShard) -> dict[str, Member]:
    """Where the clean images of a shard's split and shard lie, by `stem_of` their keys."""
    collection = Collection(committed.root)
    shard_id = replace(committed.shard_id, attack=CLEAN)
    if not collection.marker_path(shard_id).is_file():
        raise InputError(
            f"{committed.tar}: its clean images are missing, {_clean_tar(committed)}; {_remedy(committed)}"
        )
    tar = replace(collection.read(shard_id), origin=committed.origin).local_tar()
    samples = [sample for sample in index_shard(tar) if "clean" in sample.members]
    members = {stem_of(sample.key): sample.members["clean"] for sample in samples}
    if len(members) != len(samples):
        raise InputError(f"{tar}: holds two samples of one image; {_remedy(committed)}")
    return members


def _clean_tar(committed: CommittedShard) -> Path:
    """The tar that holds a shard's clean images."""
    return Collection(committed.root).stem(replace(committed.shard_id, attack=CLEAN)).with_suffix(".tar")


def _remedy(committed: CommittedShard) -> str:
    """How to make the clean shard."""
    return (
        f"make them: `impure-data generate --attack {CLEAN} --out {committed.root}` "
        "with the --images, --target and --split of the others"
    )
