"""Write what makes a folder of shards a data set that others can use: card, sums, Croissant, indices."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from impure.manifests.base.errors import InputError
from impure.manifests.base.files import atomic_path, sha256_file, write_json, write_text
from impure.manifests.base.markdown_template import render_markdown
from impure.manifests.collection.collection import Collection, CommittedShard
from impure.manifests.collection.layout import ABOUT, CROISSANT, INDICES, PREVIEW, README, SUMS
from impure.manifests.collection.plan import FrozenPlan
from impure.manifests.sharing.card.card_facts import days_of, licence_of, sources_of, splits_of, with_images
from impure.manifests.sharing.card.card_files import file_patterns, load_configs, shard_index, shard_sums
from impure.manifests.sharing.card.card_tables import (
    attacks_table,
    images_table,
    rates_table,
    software_table,
    targets_table,
)
from impure.manifests.sharing.card.croissant import croissant
from impure.manifests.views.preview import contact_sheet

PREVIEW_SAMPLES = 4  # of each attack on the contact sheet
SIZES = {"n<1K": 10**3, "1K<n<10K": 10**4, "10K<n<100K": 10**5, "100K<n<1M": 10**6}  # Hugging Face's words


def write_card(
    collection: Collection,
    names: Sequence[str] = (),
    progress: Callable[[int], object] = lambda count: None,
) -> list[Path]:
    """Write README.md, croissant.json, SHA256SUMS, an index a split and, where there are images, preview.png.

    They tell of committed shards only, and come out the same, byte for byte, when written twice.

    Args:
        collection: What to describe.
        names: Class names in label order, for the contact sheet; numbers without.
        progress: Called with 1 for each file that has been hashed.

    Returns:
        The files.

    Raises:
        InputError: There is no committed shard, a plan is broken, or a file is not what its marker says.
    """
    shards = collection.committed
    root = collection.root
    plans = collection.plans()
    if not shards:
        raise InputError(f"{root}: no committed shard there; `impure-data generate --out {root}` makes some")
    collection.about()  # without it a collection cannot be shared
    written = [*_write_preview(root, shards, names), *_write_texts(root, shards, plans)]
    summed = [*written, ABOUT, *(f"plans/{name}.parquet" for name in plans)]
    sums = {name: sha256_file(root / name) for name in summed} | dict(shard_sums(shards, progress))
    write_text(root / SUMS, "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(sums.items())))
    return [root / name for name in (*written, SUMS)]


def _write_preview(root: Path, shards: Sequence[CommittedShard], names: Sequence[str]) -> list[str]:
    """Write the contact sheet, where there is anything to look at; names of the files."""
    shown = with_images(shards)
    if not shown:
        return []
    with atomic_path(root / PREVIEW) as temporary:
        contact_sheet(shown, PREVIEW_SAMPLES, names).save(temporary, "PNG")
    return [PREVIEW]


def _write_texts(root: Path, shards: Sequence[CommittedShard], plans: dict[str, FrozenPlan]) -> list[str]:
    """Write README.md, croissant.json and the indices; names of the files."""
    write_text(root / README, readme(shards, plans))
    write_json(root / CROISSANT, _croissant(shards))
    splits = splits_of(shards)
    for split in splits:
        write_json(root / INDICES[split], shard_index(shards, split))
    return [README, CROISSANT, *(INDICES[split] for split in splits)]


def readme(shards: Sequence[CommittedShard], plans: dict[str, FrozenPlan]) -> str:
    """The card: YAML that Hugging Face reads, then Markdown for people."""
    values = {**_summary(shards, plans), **_examples(shards[0], splits_of(shards))}
    return render_markdown(Path(__file__).with_name("dataset_card.md.j2"), values)


def _summary(shards: Sequence[CommittedShard], plans: dict[str, FrozenPlan]) -> dict[str, object]:
    """What the card says of a collection."""
    stored = sum(shard.marker["counts"]["stored"] for shard in shards)
    licence = licence_of(shards)
    days = days_of(shards)
    return {
        "title": _title(plans),
        "license": licence.name,
        "license_link": licence.url,
        "licence_note": licence.note,
        "size": next((size for size, most in SIZES.items() if stored < most), "n>1M"),
        "configs": load_configs(shards),
        "pairs": stored,
        "dates": " to ".join(sorted({*days[:1], *days[-1:]})),
        "preview": bool(with_images(shards)),
        "targets": targets_table(shards),
        "plans": images_table(plans),
        "attacks": attacks_table(shards),
        "software": software_table(shards),
        "rates": rates_table(shards),
    }


def _examples(shard: CommittedShard, splits: Sequence[str]) -> dict[str, object]:
    """Names of files for the card's lines of code."""
    return {
        "splits": splits,
        "tar": f"{shard.shard_id}.tar",
        "parquet": f"{shard.shard_id}.parquet",
        "parquet_files": {split: f"*/*/{split}/*.parquet" for split in splits},
    }


def _title(plans: dict[str, FrozenPlan]) -> str:
    """What it is, in a line."""
    sources = sorted({plan.config["source"] for plan in plans.values()})
    return f"Adversarial image pairs on {', '.join(sources)}"


def _croissant(shards: Sequence[CommittedShard]) -> dict[str, Any]:
    """Croissant metadata."""
    sources = sources_of(shards)
    targets = sorted({shard.shard_id.target for shard in shards})
    return croissant(
        name=f"impure-{'-'.join(sources)}",
        description=f"Pairs of clean and adversarial images from {', '.join(sources)}, made on "
        f"{', '.join(targets)}.",
        licence=licence_of(shards).url,
        date=next(iter(days_of(shards)[-1:]), ""),
        tars=file_patterns(shards, ".tar"),
        manifests=file_patterns(shards, ".parquet"),
    )
