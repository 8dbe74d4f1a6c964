"""Check a collection against its own promises, level by level."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from impure.manifests.collection import Collection, Committed
from impure.manifests.config import digest
from impure.manifests.errors import InputError
from impure.manifests.pixels import px_sha256
from impure.manifests.samples import Sample, read_shard
from impure.manifests.schema import STATUS_OK
from impure.manifests.store import sha256_file

LEVELS = ("size", "hash", "decode")  # each includes those before it


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be: in which unit, and what."""

    unit: str
    problem: str


def verify(
    collection: Collection, level: str, progress: Callable[[int], object] = lambda count: None
) -> list[Finding]:
    """Check every unit of a collection that has a marker, and that every planned unit has one.

    Args:
        collection: What to check.
        level: `size` compares file sizes with the marker; `hash` file hashes too; `decode` decodes every
            image and compares pixels, labels, norms and counts with the manifest.
        progress: Called with 1 after every unit.

    Returns:
        Everything found wrong; at most one finding a unit, the first.
    """
    found = []
    for unit in collection.marked():
        try:
            problem = next(_problems(collection.read(unit), level), None)
        except (InputError, OSError) as error:
            problem = str(error)
        found += [] if problem is None else [Finding(str(unit), problem)]
        progress(1)
    try:
        return found + [Finding(str(unit), "planned, but not committed") for unit in collection.missing()]
    except InputError as error:
        return [*found, Finding("plans", str(error))]


def _problems(committed: Committed, level: str) -> Iterator[str]:
    """What is wrong with a unit, cheapest checks first."""
    marker = committed.marker
    if marker["unit"] != str(committed.unit) or marker["config_digest"] != digest(marker["config"]):
        yield "the marker is another unit's, or was edited"
    for name, path in (("tar", committed.tar), ("manifest", committed.manifest)):
        if not path.is_file():
            yield f"{path.name} is missing"
        elif path.stat().st_size != marker[name]["bytes"]:
            yield f"{path.name} has {path.stat().st_size} bytes, the marker says {marker[name]['bytes']}"
        elif level != "size" and sha256_file(path) != marker[name]["sha256"]:
            yield f"{path.name} has another SHA-256 than the marker says"
    if level == "decode":
        yield from _content_problems(committed)


def _content_problems(committed: Committed) -> Iterator[str]:
    """Compare every decoded sample with its row."""
    table, config = committed.rows()
    rows = [row for row in table.to_pylist() if row["status"] == STATUS_OK]
    if digest(config) != committed.marker["config_digest"]:
        yield "manifest and marker were made with different configs"
    samples = list(read_shard(committed.tar))
    if [row["key"] for row in rows] != [sample.key for sample in samples]:
        yield f"{len(rows)} samples are in the manifest, {len(samples)} in the tar, or in another order"
    for row, sample in zip(rows, samples, strict=False):
        if row["linf_255"] > row["eps_255"]:
            yield f"sample {sample.key}: leaves its budget of {row['eps_255']}/255"
        if row["success"] != _reached(row):
            yield f"sample {sample.key}: its verdict contradicts its prediction"
        if wrong := [name for name, value in measure(sample).items() if not _same(row[name], value)]:
            yield f"sample {sample.key}: {', '.join(wrong)} in the manifest is not what the stored bytes say"


def _reached(row: dict[str, Any]) -> bool:
    """Whether the prediction is what the attack wanted."""
    if row["aim"] >= 0:
        return bool(row["pred_adv"] == row["aim"])
    return bool(row["pred_adv"] != row["label"])


def measure(sample: Sample) -> dict[str, Any]:
    """What the stored bytes alone say of a sample, under the manifest's column names."""
    change = sample.adversarial.astype("int64") - sample.clean
    return {
        "label": sample.label,
        "height": sample.clean.shape[0],
        "width": sample.clean.shape[1],
        "clean_px_sha256": px_sha256(sample.clean),
        "adv_px_sha256": px_sha256(sample.adversarial),
        "linf_255": int(abs(change).max()),
        "l2": float((change**2).sum() ** 0.5 / 255),
    }


def _same(stored: Any, measured: Any) -> bool:
    """Equal, up to the manifest's float32."""
    if isinstance(measured, float):
        return isinstance(stored, float) and abs(stored - measured) <= 1e-5 * max(1.0, measured)
    return bool(stored == measured)
