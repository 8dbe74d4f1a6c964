"""Purifies an image file, or all image files below a folder."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from impure.manifests.base.errors import InputError
from impure.manifests.base.files import atomic_path, writing
from impure.manifests.base.images import decode_photo, photo_suffixes
from impure.pipeline.tensors import to_float, to_pixels, to_tensor, to_uint8
from impure.purifier.defences.files.tiles import needs_tiles, purify_in_tiles
from impure.purifier.riae.model import RIAE
from impure.purifier.riae.noise import Partition


@dataclass(frozen=True, slots=True, kw_only=True)
class PurifySummary:
    """What became of the images: how many were written, which were not and why."""

    written: int
    skipped: tuple[tuple[Path, str], ...]  # images that cannot be read
    ignored: int  # files that are no images by their names
    tiled: int = 0  # images that were larger than a tile; see `tiles`


def purify_path(
    source: Path,
    destination: Path,
    riae: RIAE,
    device: torch.device,
    *,
    seed: int = 0,
    samples: int = 1,
    partition: Partition = "uniform",
    progress: bool = False,
) -> PurifySummary:
    """Purify one image, or every image below a folder, into 8-bit RGB PNG files.

    The tree and the names stay (`a/b.jpg` becomes `a/b.png`; where two would meet, both keep their ending:
    `a/b.jpg.png`). Pictures are turned upright by their EXIF orientation and keep their size. Each image is
    purified by itself with the same seed, so the result does not depend on its neighbours; large ones in
    tiles (see `purify_in_tiles`).

    Args:
        source: An image or a folder.
        destination: A .png file or an existing folder for one image; a folder for a folder.
        riae: The purifier.
        device: Where to compute.
        seed: Of the purifier's noise.
        samples: Purifications to average.
        partition: How patches are partitioned; see `RIAE.purify`.
        progress: Show a bar on standard error.

    Raises:
        InputError: `source` is missing or holds no image, `destination` overlaps it or is of the wrong kind.
        WriteError: `destination` cannot be written.
    """
    jobs, ignored = _jobs(source, destination)
    riae = riae.to(device).eval()
    skipped: list[tuple[Path, str]] = []
    tiled = 0
    for path, target in tqdm(jobs, unit="img", disable=not progress):
        try:
            image = read_image(path)
        except InputError as error:
            skipped.append((path, str(error)))
            continue
        with torch.no_grad():
            images = image[None].to(device)
            purified = purify_in_tiles(riae, images, seed=seed, samples=samples, partition=partition)[0]
        tiled += needs_tiles(riae.config, *image.shape[1:])
        _write_image(target, purified)
    written = len(jobs) - len(skipped)
    return PurifySummary(written=written, skipped=tuple(skipped), ignored=ignored, tiled=tiled)


def read_image(path: Path) -> Tensor:
    """Read an image of any common kind, upright, as RGB in [0,1] (3, H, W).

    Raises:
        InputError: It cannot be read or decoded.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    upright = decode_photo(data, str(path), upright=True)
    return to_float(to_tensor([np.array(upright)], torch.device("cpu")))[0]


def _write_image(path: Path, image: Tensor) -> None:
    """Write RGB in [0,1] (3, H, W) as PNG; the file appears whole or not at all."""
    (pixels,) = to_pixels(to_uint8(image[None]))
    with writing(path), atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, "PNG")


def _jobs(source: Path, destination: Path) -> tuple[list[tuple[Path, Path]], int]:
    """(image, file to write) pairs, and the number of files that are no images by their names."""
    if source.is_file():
        target = destination / f"{source.stem}.png" if destination.is_dir() else destination
        if target.suffix.lower() != ".png":
            raise InputError(
                f"{destination}: purified images are PNG files; give a name ending in .png or a folder"
            )
        if target.resolve() == source.resolve():
            raise InputError(f"{destination}: is the image itself; choose another name")
        return [(source, target)], 0
    if not source.is_dir():
        raise InputError(f"{source}: no such image or folder")
    if destination.is_file() or destination.resolve().is_relative_to(source.resolve()):
        raise InputError(f"{destination}: must be a folder outside {source}")
    files = sorted(path for path in source.rglob("*") if path.is_file())
    suffixes = photo_suffixes()
    images = [path for path in files if path.suffix.lower() in suffixes]
    if not images:
        raise InputError(f"{source}: no image below it ({len(files)} other files)")
    return list(_named(source, destination, images)), len(files) - len(images)


def _named(source: Path, destination: Path, images: list[Path]) -> Iterator[tuple[Path, Path]]:
    """Each image with its file below `destination`, never two with the same one."""
    short = {path: path.relative_to(source).with_suffix(".png") for path in images}
    meeting = Counter(short.values())
    taken: set[Path] = set()
    for path, name in short.items():
        name = name if meeting[name] == 1 else path.relative_to(source).with_name(f"{path.name}.png")
        if name in taken:
            raise InputError(f"{path}: two images would become {destination / name}; rename one")
        taken.add(name)
        yield path, destination / name
