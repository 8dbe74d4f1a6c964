"""What pull and push have in common: their result, and when two copies of a shard agree."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from impure.manifests.base.canonical_json import differing_fields, digest
from impure.manifests.base.errors import InputError
from impure.manifests.collection.collection import Collection, CommittedShard

Progress = Callable[[int, int], object]
"""Called, from several threads, with bytes since the last call (negative: lost again) and bytes in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """What a transfer did.

    Attributes:
        shards: Shards asked for.
        present: Those of them that the destination had already.
        bytes: Of the tars and manifests of the others.
        card_copied: Whether collection.json and card of the source describe all that the destination holds
            now, and were copied too; if not, `impure-data card` should be run there.
    """

    shards: int
    present: int
    bytes: int
    card_copied: bool


def no_progress(count: int, total: int) -> None:
    """A `Progress` that shows nothing."""


def total_bytes(shards: Sequence[CommittedShard]) -> int:
    """Bytes of tars and manifests."""
    return sum(entry["bytes"] for shard in shards for _, entry in shard.files)


def plan_names(collection: Collection) -> set[str]:
    """Names of the plans that a local collection has, such as `plans/resnet101-train.parquet`."""
    return {f"plans/{path.name}" for path in collection.plan_paths()}


def check_same_run(ours: CommittedShard, theirs: CommittedShard, remedy: str) -> None:
    """Two shards of one name must be of one config and one run.

    Args:
        ours: The local one.
        theirs: The remote one.
        remedy: What helps, for the error message.

    Raises:
        InputError: They are not; the message names the fields.
    """
    our_config = ours.marker["config"]
    their_config = theirs.marker["config"]
    if digest(our_config) != digest(their_config):
        fields = "; ".join(differing_fields(our_config, their_config))
        raise InputError(f"{theirs.shard_id}: made with another config: {fields}; {remedy}")
    pairs = zip(ours.files, theirs.files, strict=True)
    if any(mine["sha256"] != other["sha256"] for (_, mine), (_, other) in pairs):
        raise InputError(
            f"{theirs.shard_id}: made with the same config, but in another run, with other bytes; {remedy}"
        )
