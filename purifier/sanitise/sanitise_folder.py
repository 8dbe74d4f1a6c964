"""Sanitises a folder of images: a copy without backdoor triggers, and a report.

DataElixir (Zhou et al. 2024, arXiv:2312.11057) in outline. In place of its classifier trained anew, the
class of a suspect is the one that the target gives the purified image: without its trigger, a backdoored
classifier is a plain one.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from impure.manifests.base.canonical_json import digest
from impure.manifests.base.errors import InputError
from impure.manifests.base.files import atomic_path, read_json, write_json, writing
from impure.manifests.base.parquet import read_table, write_table
from impure.pipeline.sources.folder import FolderSource
from impure.pipeline.sources.source import as_file_name
from impure.pipeline.targets.target import Target, state_sha256
from impure.purifier.defences.base.defence import Defence
from impure.purifier.sanitise.examine_images import Examined, Examiner
from impure.purifier.sanitise.sanitise_config import SanitiseConfig
from impure.purifier.sanitise.target_classes import target_classes

REPORT = "report.parquet"
CONFIG = "sanitised.json"
WORK = "_work"  # what is known so far; removed when the report has been written
SCHEMA = pa.schema(
    {
        "source_id": pa.string(),
        "wnid": pa.string(),
        "labels": pa.list_(pa.string()),
        "flips": pa.int32(),
        "suspect": pa.bool_(),
        "why": pa.string(),
        "chosen_round": pa.int32(),
        "file": pa.string(),
    }
)
"""Columns of the report; see docs/sanitise.md."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SanitiseSummary:
    """What became of the images.

    Attributes:
        kept: Copied as they were.
        purified: Suspects, each replaced by a purified image.
        unreadable: Left out, as they cannot be decoded.
        target_classes: wnids that a backdoor seems to lead to.
    """

    kept: int
    purified: int
    unreadable: int
    target_classes: tuple[str, ...]


def sanitise_folder(
    source: FolderSource,
    split: str,
    defence: Defence,
    target: Target,
    config: SanitiseConfig,
    out: Path,
    *,
    purifier: Mapping[str, str],
    advance: Callable[[int], object] = lambda _: None,
) -> SanitiseSummary:
    """Write a copy of an ImageNet folder's split without triggers, and `report.parquet` beside it.

    Interrupted, the same call goes on. An image is suspect if its label flips (see `SanitiseConfig`) and
    the label that it had is a class that a backdoor seems to lead to. Of a suspect the purified image is
    written, as PNG of the size that the target sees; if it lay in that class's folder, then into the folder
    of the class it is given now.

    Args:
        source: The images.
        split: `train` or `val`.
        defence: The purifier.
        target: The classifier that was trained on the images, and so knows the backdoor.
        config: Settings.
        out: Folder to write.
        purifier: Name and parameters of the defence, for the record.
        advance: Told the number of images just examined.

    Raises:
        InputError: A class is none of the target's, or `out` holds something else.
        WriteError: `out` cannot be written.
    """
    images = source.images(split)
    if unknown := sorted({image.wnid for image in images} - set(target.card.wnids)):
        raise InputError(f"{source.root}: {unknown[0]} is no class of target {target.card.name}")
    identity = {
        "images": digest([image.source_id for image in images]),
        "split": split,
        "target": target.identity(),
        "purifier": {**purifier, "weights": state_sha256(defence)},
        **asdict(config),
    }
    with writing(out, "choose another --out"):
        _open(out, identity)
    if (out / REPORT).is_file():
        return _summary(read_table(out / REPORT, SCHEMA)[0].to_pylist())
    examiner = Examiner(source=source, defence=defence, target=target, config=config, work=out / WORK)
    rows = _report(list(examiner.examine(images, advance)), target.card.wnids, split, config)
    with writing(out):
        for index, row in enumerate(rows):
            if row["file"]:
                image = examiner.candidate(index) if row["suspect"] else source.path(row["source_id"])
                _copy(image, out / as_file_name(row["file"]))
        with atomic_path(out / REPORT) as temporary:
            write_table(temporary, pa.Table.from_pylist(rows, schema=SCHEMA), identity)
        shutil.rmtree(out / WORK)
    return _summary(rows)


def _open(out: Path, identity: Mapping[str, Any]) -> None:
    """Begin a folder, or recognise the one that was begun."""
    path = out / CONFIG
    if path.is_file():
        if read_json(path).get("digest") != digest(dict(identity)):
            raise InputError(
                f"{out}: was sanitised from other images or with other settings; choose another --out"
            )
        return
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out}: is not empty; choose another --out")
    write_json(path, {"digest": digest(dict(identity)), **identity})


def _report(
    examined: Sequence[Examined], wnids: Sequence[str], split: str, config: SanitiseConfig
) -> list[Row]:
    """The rows of the report, in the images' order."""
    readable = [image for image in examined if not image.error]
    flipping = [image.flips > config.flips for image in readable]
    backdoored = target_classes([image.labels[0] for image in readable], flipping, config.outlier)
    names = _Names(split, examined)
    return [_row(index, image, backdoored, names, wnids, config) for index, image in enumerate(examined)]


def _row(
    index: int,
    image: Examined,
    backdoored: Sequence[int],
    names: "_Names",
    wnids: Sequence[str],
    config: SanitiseConfig,
) -> Row:
    """A row of the report."""
    labels = [wnids[label] for label in image.labels]
    row: Row = {"source_id": image.source_id, "wnid": image.wnid, "labels": labels, "flips": image.flips}
    row |= {"suspect": False, "chosen_round": 0, "file": "", "why": image.error}
    if image.error:
        return row
    row["why"] = f"{image.flips} of {config.rounds} rounds give another label"
    if image.flips <= config.flips or image.labels[0] not in backdoored:
        return row | {"file": names.old(image)}
    row["why"] += f", and {labels[0]} has unusually many such images"
    wnid = labels[image.chosen] if image.wnid == labels[0] else image.wnid
    return row | {"suspect": True, "chosen_round": image.chosen, "file": names.new(image, wnid, index)}


class _Names:
    """Files of the clean folder, `split/wnid/name`, never two the same."""

    def __init__(self, split: str, images: Sequence[Examined]) -> None:
        self._split = split
        self._taken = {self.old(image) for image in images}

    def old(self, image: Examined) -> str:
        """The file of an image that stays as it is."""
        return f"{self._split}/{image.wnid}/{PurePosixPath(image.source_id).name}"

    def new(self, image: Examined, wnid: str, index: int) -> str:
        """The file of a purified image: its name with the ending .png, and its index where that is taken."""
        stem = f"{self._split}/{wnid}/{PurePosixPath(image.source_id).stem}"
        while f"{stem}.png" in self._taken and f"{stem}.png" != self.old(image):
            stem += f"-{index}"
        self._taken.add(f"{stem}.png")
        return f"{stem}.png"


def _copy(file: Path, destination: Path) -> None:
    """Copy a file that is not there yet; it appears whole or not at all."""
    if not destination.is_file():
        with atomic_path(destination) as temporary:
            shutil.copyfile(file, temporary)


def _summary(rows: Sequence[Row]) -> SanitiseSummary:
    """What a report says in all."""
    suspects = [row for row in rows if row["suspect"]]
    unreadable = sum(not row["file"] for row in rows)
    return SanitiseSummary(
        kept=len(rows) - len(suspects) - unreadable,
        purified=len(suspects),
        unreadable=unreadable,
        target_classes=tuple(sorted({row["labels"][0] for row in suspects})),
    )
