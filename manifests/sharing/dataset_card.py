"""What makes a folder of shards a data set that others can use: card, sums, Croissant, index."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jinja2

from impure.manifests.base.errors import InputError
from impure.manifests.base.files import atomic_path, sha256_file, write_json
from impure.manifests.collection.collection import Collection, CommittedShard
from impure.manifests.collection.layout import ABOUT, CROISSANT, INDICES, PREVIEW, README, SUMS
from impure.manifests.collection.plan import FrozenPlan
from impure.manifests.collection.shard_id import CLEAN, SPLITS
from impure.manifests.collection.storage_profiles import CLEAN_ONCE, DELTA, PAIRS, PNG
from impure.manifests.sharing.card_tables import (
    attacks_table,
    images_table,
    rates_table,
    software_table,
    targets_table,
)
from impure.manifests.sharing.croissant import croissant
from impure.manifests.views.preview import contact_sheet

DRAWN = "builtin"  # images that nobody photographed
ROW = 4  # samples of each attack on the contact sheet
SIZES = {"n<1K": 10**3, "1K<n<10K": 10**4, "10K<n<100K": 10**5, "100K<n<1M": 10**6}  # Hugging Face's words

_IMAGENET = "https://www.image-net.org/download.php"
_APACHE = "https://www.apache.org/licenses/LICENSE-2.0"
_NOTES = {
    DRAWN: "The images are drawn by a program; they and their attacks are free under Apache-2.0.",
    PAIRS: "The images come from ImageNet or a part of it, whose terms of access do not allow handing them "
    "on freely: non-commercial research and education only, by those who accepted the terms themselves "
    f"({_IMAGENET}). Keep this collection inside your lab, or gate it.",
    DELTA: "The shards hold perturbations, identifiers and hashes, but no photographs: "
    "`impure-data rebuild` makes the pairs from your own copy of ImageNet, for which ImageNet's terms of "
    f"access hold ({_IMAGENET}).",
}


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
    shards, root = collection.committed, collection.root
    plans = collection.plans()
    if not shards:
        raise InputError(f"{root}: no committed shard there; `impure-data generate --out {root}` makes some")
    collection.about()  # a share without it is none
    written = []
    if shown := _with_images(shards):
        with atomic_path(root / PREVIEW) as temporary:
            contact_sheet(shown, ROW, names).save(temporary, "PNG")
        written.append(PREVIEW)
    _write(root / README, readme(shards, plans))
    write_json(root / CROISSANT, _croissant(shards))
    indexed = [split for split in SPLITS if any(each.shard_id.split == split for each in shards)]
    for split in indexed:
        write_json(root / INDICES[split], shard_index(shards, split))
    written += [README, CROISSANT, *(INDICES[split] for split in indexed)]
    shared = [*written, ABOUT, *(f"plans/{name}.parquet" for name in plans)]
    sums = {name: sha256_file(root / name) for name in shared} | dict(_shard_sums(shards, progress))
    _write(root / SUMS, "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(sums.items())))
    return [root / name for name in (*written, SUMS)]


def readme(shards: Sequence[CommittedShard], plans: dict[str, FrozenPlan]) -> str:
    """The card: YAML that Hugging Face reads, then Markdown for people."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    stored, licence = sum(each.marker["counts"]["stored"] for each in shards), _licence(shards)
    first = shards[0]
    splits = [split for split in SPLITS if any(each.shard_id.split == split for each in shards)]
    return environment.get_template("dataset_card.md.j2").render(
        title=_title(plans),
        license="apache-2.0" if licence == DRAWN else "other",
        licence_note=_NOTES[licence],
        size=next((size for size, most in SIZES.items() if stored < most), "n>1M"),
        configs=configs(shards),
        pairs=stored,
        dates=" to ".join(sorted(set(_days(shards)[:1] + _days(shards)[-1:]))),
        preview=bool(_with_images(shards)),
        targets=targets_table(shards),
        plans=images_table(plans),
        attacks=attacks_table(shards),
        software=software_table(shards),
        rates=rates_table(shards),
        splits=splits,
        tar=f"{first.shard_id}.tar",
        parquet=f"{first.shard_id}.parquet",
        parquet_files={split: f"*/*/{split}/*.parquet" for split in splits},
    )


def configs(shards: Sequence[CommittedShard]) -> dict[str, dict[str, list[str]]]:
    """What `load_dataset` offers: configuration -> split -> paths of tars.

    Shards with different members cannot be one table, so each way of storing is a configuration. The
    manifests are none: `datasets` reads all configurations of a card with the builder of the first, and fails
    on Parquet files beside tars.
    """
    found: dict[str, dict[str, list[str]]] = {}
    filled = [each for each in shards if each.marker["counts"]["stored"]]
    for name in sorted({_config(each) for each in filled}, key=lambda name: (name != PAIRS, name)):
        mine = [each for each in filled if _config(each) == name]
        found[name] = {
            split: paths
            for split in SPLITS
            if (paths := _paths([each for each in mine if each.shard_id.split == split], ".tar"))
        }
    return found


def shard_index(shards: Sequence[CommittedShard], split: str) -> dict[str, Any]:
    """The shards of a split as `wids` reads them, for random access."""
    return {
        "__kind__": "wids-shard-index-v1",
        "wids_version": 1,
        "name": split,
        "shardlist": [
            {
                "url": f"{each.shard_id}.tar",
                "nsamples": each.marker["counts"]["stored"],
                "filesize": each.marker["tar"]["bytes"],
            }
            for each in shards
            if each.shard_id.split == split and each.marker["counts"]["stored"]
        ],
    }


def _shard_sums(
    shards: Sequence[CommittedShard], progress: Callable[[int], object]
) -> Iterator[tuple[str, str]]:
    """Hash the files of all shards.

    Raises:
        InputError: One is not what its marker says.
    """
    for each in shards:
        for path, entry in each.files:
            sha256 = sha256_file(path) if path.is_file() else ""
            if sha256 != entry["sha256"]:
                raise InputError(f"{path}: not what its marker says; see `impure-data verify {each.root}`")
            yield f"{each.shard_id}{path.suffix}", sha256
            progress(1)
        yield f"{each.shard_id}.done.json", sha256_file(each.stem.with_suffix(".done.json"))


def _write(path: Path, text: str) -> None:
    """Write a text, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _paths(shards: Sequence[CommittedShard], ending: str) -> list[str]:
    """A glob for each folder of which every such file is committed; for others file by file."""
    folders: dict[Path, list[CommittedShard]] = {}
    for each in shards:
        folders.setdefault(each.stem.parent, []).append(each)
    found = []
    for folder, mine in folders.items():
        files = {each.stem.with_suffix(ending) for each in mine}
        if set(folder.glob(f"*{ending}")) == files:
            found.append(f"{folder.relative_to(mine[0].root).as_posix()}/*{ending}")
        else:
            found += [f"{each.shard_id}{ending}" for each in mine]
    return found


def _with_images(shards: Sequence[CommittedShard]) -> list[CommittedShard]:
    """The shards that can be looked at: some sample is stored, and not as a perturbation alone."""
    return [each for each in shards if each.marker["counts"]["stored"] and each.storage.profile != DELTA]


def _config(each: CommittedShard) -> str:
    """Configuration of `load_dataset`: shards with the same members share one."""
    storage = each.storage
    apart = each.shard_id.attack == CLEAN and storage.profile == CLEAN_ONCE
    name = CLEAN if apart else storage.profile
    return name if storage.encoding == PNG else f"{name}-{storage.encoding}"


def _licence(shards: Sequence[CommittedShard]) -> str:
    """Which of `_NOTES` holds."""
    if all(source == DRAWN for each in _one_of_each_plan(shards) for source in each.sources()):
        return DRAWN
    return DELTA if all(each.storage.profile == DELTA for each in shards) else PAIRS


def _one_of_each_plan(shards: Sequence[CommittedShard]) -> list[CommittedShard]:
    """A unit of each target and split."""
    return list({(each.shard_id.target, each.shard_id.split): each for each in shards}.values())


def _title(plans: dict[str, FrozenPlan]) -> str:
    """What it is, in a line."""
    sources = sorted({plan.config["source"] for plan in plans.values()})
    return f"Adversarial image pairs on {', '.join(sources)}"


def _days(shards: Sequence[CommittedShard]) -> list[str]:
    """The days on which shards were made, as their run ids begin (YYYYMMDD)."""
    days = {str(each.marker.get("run_id", ""))[:8] for each in shards}
    return [f"{day[:4]}-{day[4:6]}-{day[6:]}" for day in sorted(days) if day.isdigit() and len(day) == 8]


def _croissant(shards: Sequence[CommittedShard]) -> dict[str, Any]:
    """Croissant metadata."""
    sources = sorted({source for each in _one_of_each_plan(shards) for source in each.sources()})
    targets = sorted({each.shard_id.target for each in shards})
    return croissant(
        name=f"impure-{'-'.join(sources)}",
        description=f"Pairs of clean and adversarial images from {', '.join(sources)}, made on "
        f"{', '.join(targets)}.",
        licence=_APACHE if _licence(shards) == DRAWN else _IMAGENET,
        date=next(iter(_days(shards)[-1:]), ""),
        tars=_paths(shards, ".tar"),
        manifests=_paths(shards, ".parquet"),
    )
