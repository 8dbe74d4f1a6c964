"""ImageNet as a folder of image files."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from impure.manifests.base.errors import InputError
from impure.manifests.base.images import decode_photo
from impure.pipeline.sources.source import (
    IMAGE_SUFFIXES,
    Photo,
    SourceImage,
    as_file_name,
    as_text,
    is_image,
    safe_name,
)

#: A name, which may hold spaces, and the first wnid after it.
_TRUTH = re.compile(r"\s*(\S.*?)\s*[,\s]\s*(n\d{8})(?![^\s,])")

LABEL_FILES = ("LOC_val_solution.csv", "val_labels.csv", "val_labels.txt")


@dataclass(frozen=True)
class FolderSource:
    """`ROOT/train|val/<wnid>/*`, or a flat `ROOT/val/*` with a ground-truth file."""

    root: Path
    labels: Path | None = None

    @property
    def name(self) -> str:
        """The folder's own name."""
        return safe_name(self.root.resolve().name)

    def images(self, split: str) -> list[SourceImage]:
        """Every image file of a split, ordered by path."""
        folder = self.root / split
        if not folder.is_dir():
            raise InputError(
                f"{folder}: no such folder; expected {self.root}/train/<wnid>/* and {self.root}/val/<wnid>/*"
            )
        images = self._flat(folder) if self.labels else self._foldered(folder) or self._flat(folder)
        if not images:
            raise InputError(
                f"{folder}: no images there ({', '.join(sorted(IMAGE_SUFFIXES))} below folders named by wnid)"
            )
        return images

    def _foldered(self, folder: Path) -> list[SourceImage]:
        """Images in class folders, ordered by path."""
        images: list[SourceImage] = []
        class_folders = (path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
        for class_folder in sorted(class_folders):
            paths = sorted(path for path in class_folder.iterdir() if is_image(path.name))
            if not paths:
                raise InputError(f"{class_folder}: no images there; fill the class's folder or remove it")
            images += [self._image(path, as_text(class_folder.name)) for path in paths]
        return images

    def _flat(self, folder: Path) -> list[SourceImage]:
        """Images straight in the folder, with classes from the ground truth."""
        paths = sorted(path for path in folder.iterdir() if is_image(path.name))
        if not paths:
            return []
        truth_file = self.labels or next(
            (self.root / name for name in LABEL_FILES if (self.root / name).is_file()), None
        )
        if truth_file is None:
            raise InputError(
                f"{folder}: images lie flat and there is no ground truth; give --labels LOC_val_solution.csv"
            )
        truth = read_ground_truth(truth_file)
        if missing := [path.stem for path in paths if path.stem not in truth]:
            raise InputError(f"{truth_file}: no class for {missing[0]} ({len(missing)} images have none)")
        return [self._image(path, truth[path.stem]) for path in paths]

    def _image(self, path: Path, wnid: str) -> SourceImage:
        """An image of a class, named by its path below the root."""
        return SourceImage(as_text(path.relative_to(self.root).as_posix()), wnid)

    def load(self, image: SourceImage, size: int) -> Photo:  # noqa: ARG002
        """Read and decode one file."""
        try:
            data = self.path(image.source_id).read_bytes()
        except OSError as error:
            raise InputError(f"{image.source_id}: cannot be read ({error.strerror})") from error
        return Photo(decode_photo(data, image.source_id), hashlib.sha256(data).hexdigest())

    def path(self, source_id: str) -> Path:
        """The file of an image."""
        path = self.root / source_id
        return path if path.exists() else self.root / as_file_name(source_id)


def _stem(name: str) -> str:
    """An image's name without its ending, where it has one."""
    return Path(name).stem if is_image(name) else name


def read_ground_truth(path: Path) -> dict[str, str]:
    """Read which class each validation image is of.

    Args:
        path: Lines of `NAME WNID` or `NAME,WNID …`: Kaggle's LOC_val_solution.csv is one. The devkit's bare
            numbers are refused: they count classes in an order of their own.

    Returns:
        wnid by image name without suffix.

    Raises:
        InputError: The file cannot be read, or a line has another form.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as ground truth ({error})") from error
    truth = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("ImageId"):
            continue
        match = _TRUTH.match(line)
        if match is None:
            raise InputError(
                f"{path}, line {number}: expected `NAME WNID` such as `ILSVRC2012_val_00000001 n01751748`"
            )
        truth[_stem(match[1])] = match[2]
    return truth
