"""Check a collection against its own promises, level by level: sizes, hashes, decoded images."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from impure.manifests.base.canonical_json import digest
from impure.manifests.base.errors import ImpureError
from impure.manifests.base.files import sha256_file
from impure.manifests.base.images import px_sha256
from impure.manifests.checks.consistency import collection_problems, shard_problems
from impure.manifests.collection.collection import Collection, CommittedShard
from impure.manifests.collection.plan import FrozenPlan, read_plans
from impure.manifests.collection.samples import Stored, read_stored
from impure.manifests.collection.schema import Row
from impure.manifests.collection.shard_id import ShardId, parse_shard_id
from impure.manifests.collection.storage import change_of
from impure.manifests.collection.stored_pairs import index_stored_samples

LEVELS = ("size", "hash", "decode")  # each includes those before it


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem: of which shard (or file of the collection), and what it is."""

    shard_id: str
    problem: str


def verify(
    collection: Collection,
    level: str,
    progress: Callable[[int], object] = lambda count: None,
    wanted: Callable[[ShardId], bool] = lambda shard_id: True,
) -> list[Finding]:
    """Check every shard that has a marker, that it belongs to its plan, and that no planned shard is missing.

    Args:
        collection: What to check.
        level: `size` compares file sizes, plans and places (see `consistency`) with the marker; `hash` file
            hashes too; `decode` decodes every image and compares pixels, labels, norms and counts with the
            manifest; of perturbations without images it leaves out the pixels.
        progress: Called with 1 after every shard that is checked.
        wanted: Which shards are checked.

    Returns:
        Everything found wrong; at most one finding a shard, the first.
    """
    plans, broken = read_plans(collection.plan_paths())
    marked = collection.marked()
    findings = []
    for shard_id in filter(wanted, marked):
        try:
            problem = next(_problems(collection.read(shard_id), plans, level), None)
        except (ImpureError, OSError) as error:
            problem = str(error)
        findings += [] if problem is None else [Finding(str(shard_id), problem)]
        progress(1)
    findings += [Finding("plans", problem) for problem in broken]
    more = collection_problems(collection, plans, marked)
    return findings + [Finding(place, problem) for place, problem in more if _is_wanted(place, wanted)]


def _is_wanted(place: str, wanted: Callable[[ShardId], bool]) -> bool:
    """Whether a place is a shard that is to be checked, or no shard's."""
    shard_id = parse_shard_id(f"{place}.done.json")
    return shard_id is None or wanted(shard_id)


def _problems(committed: CommittedShard, plans: Mapping[str, FrozenPlan | None], level: str) -> Iterator[str]:
    """What is wrong with a shard, cheapest checks first."""
    yield from shard_problems(committed, plans)
    for path, entry in committed.files:
        if level != "size" and sha256_file(path) != entry["sha256"]:
            yield f"{path.name} has another SHA-256 than the marker says"
    if level == "decode":
        yield from _content_problems(committed)


def _content_problems(committed: CommittedShard) -> Iterator[str]:
    """Compare every decoded sample with its row, one at a time."""
    _, config = committed.rows()
    rows = committed.stored_rows("key", "eps_255", "success", "pred_adv", "target_class", "label", "linf_255")
    if digest(config) != committed.marker["config_digest"]:
        yield "manifest and marker were made with different configs"
    samples = index_stored_samples(committed)
    if [row["key"] for row in rows] != [sample.key for sample in samples]:
        yield f"{len(rows)} samples are in the manifest, {len(samples)} in the tar, or in another order"
    storage = committed.storage
    if samples and not samples[0].members.keys() >= set(storage.images(committed.shard_id.attack)):
        yield f"its members are not those of the profile {storage.profile!r} that its marker names"
    for row, index in zip(rows, samples, strict=False):
        yield from (f"sample {index.key}: {problem}" for problem in _sample_problems(row, read_stored(index)))


def _sample_problems(row: Row, stored: Stored) -> Iterator[str]:
    """What a sample's row says that cannot be, or that the stored bytes do not say."""
    if row["linf_255"] > row["eps_255"]:
        yield f"leaves its budget of {row['eps_255']}/255"
    if row["success"] != _reached(row):
        yield "its verdict contradicts its prediction"
    recorded = dict(row)
    if wrong := [name for name, value in measure(stored).items() if not _same(recorded[name], value)]:
        yield f"{', '.join(wrong)} in the manifest is not what the stored bytes say"


def _reached(row: Row) -> bool:
    """Whether the prediction is what the attack wanted."""
    if row["target_class"] >= 0:
        return bool(row["pred_adv"] == row["target_class"])
    return bool(row["pred_adv"] != row["label"])


def measure(stored: Stored) -> dict[str, float | str]:
    """What the stored bytes alone say of a sample, under the manifest's column names.

    A perturbation says nothing of the images' own hashes.
    """
    change = change_of(stored)
    adversarial = stored.images.get("adv", stored.images.get("clean"))
    hashes = {
        f"{name}_px_sha256": px_sha256(pixels)
        for name, pixels in (("clean", stored.images.get("clean")), ("adv", adversarial))
        if pixels is not None
    }
    return {
        "label": stored.label,
        "height": change.shape[0],
        "width": change.shape[1],
        "linf_255": int(abs(change).max()),
        "l2": float((change**2).sum() ** 0.5 / 255),
        **hashes,
    }


def _same(recorded: object, measured: float | str) -> bool:
    """Whether they are equal, up to the manifest's float32."""
    if isinstance(measured, float):
        return isinstance(recorded, float) and abs(recorded - measured) <= 1e-5 * max(1.0, measured)
    return bool(recorded == measured)
