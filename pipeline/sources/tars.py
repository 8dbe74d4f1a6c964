"""ImageNet as WebDataset tars."""

import hashlib
import os
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from impure.manifests.base.errors import InputError
from impure.manifests.base.images import decode_photo
from impure.pipeline.sources.imagenet import imagenet_wnids
from impure.pipeline.sources.source import WNID, Photo, SourceImage, as_text, is_image, safe_name


@dataclass(frozen=True)
class TarSource:
    """WebDataset tars of ImageNet: `<key>.jpg` (or jpeg, png, webp) beside `<key>.cls` (index or wnid)."""

    tars: list[Path]
    _images: dict[str, list[SourceImage]] = field(default_factory=dict)
    _locations: dict[str, tuple[Path, int, int]] = field(default_factory=dict)
    _scanning: Lock = field(default_factory=Lock)

    @property
    def name(self) -> str:
        """Name of the folder that the tars lie in."""
        return safe_name(self.tars[0].resolve().parent.name)

    def images(self, split: str) -> list[SourceImage]:
        """Every image of all the tars; they hold one split, so `split` names it and picks nothing."""
        with self._scanning:
            if split not in self._images:
                self._images[split] = [image for tar in self.tars for image in self._scan(tar, split)]
        if not self._images[split]:
            raise InputError(f"{self.tars[0]}: no images with a .cls member there")
        return self._images[split]

    def _scan(self, path: Path, split: str) -> list[SourceImage]:
        """List one tar's images; remembers where their bytes lie."""
        pictures, classes = _pictures_and_classes(path)
        images = []
        tar_path = path.relative_to(os.path.commonpath([tar.parent for tar in self.tars]))
        for key in filter(classes.__contains__, pictures):
            extension, offset, size = pictures[key]
            source_id = as_text(f"{split}/{tar_path}/{key}.{extension}")
            image = SourceImage(source_id, _wnid_of(classes[key], f"{path}: {key}.cls"))
            self._locations[image.source_id] = (path, offset, size)
            images.append(image)
        return images

    def load(self, image: SourceImage, size: int) -> Photo:  # noqa: ARG002
        """Read and decode one member; lists the images first where that has not been done, as in a worker."""
        if image.source_id not in self._locations:
            try:
                self.images(image.source_id.partition("/")[0])
            except InputError as error:
                raise InputError(f"{image.source_id}: the tars given cannot be listed any more") from error
        if image.source_id not in self._locations:
            raise InputError(f"{image.source_id}: not in the tars given")
        path, offset, length = self._locations[image.source_id]
        try:
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read(length)
        except OSError as error:
            raise InputError(f"{image.source_id}: cannot be read ({error.strerror})") from error
        return Photo(decode_photo(data, image.source_id), hashlib.sha256(data).hexdigest())


def _pictures_and_classes(path: Path) -> tuple[dict[str, tuple[str, int, int]], dict[str, str]]:
    """By a sample's key in a tar: its image's extension, offset and size; and what its `.cls` member says.

    Raises:
        InputError: It cannot be read, or a sample has two images.
    """
    pictures: dict[str, tuple[str, int, int]] = {}
    classes: dict[str, str] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in filter(tarfile.TarInfo.isreg, tar):
                folder, slash, base = member.name.rpartition("/")
                stem, _, extension = base.partition(".")
                key = f"{folder}{slash}{stem}"
                if is_image(base):
                    if key not in pictures or _replaces(extension, pictures[key][0], f"{path}: {key}"):
                        pictures[key] = (extension, member.offset_data, member.size)
                elif extension.lower() == "cls" and member.size <= 32:
                    classes[key] = tar.extractfile(member).read().decode("ascii").strip()  # type: ignore[union-attr]
    except (OSError, tarfile.TarError, ValueError) as error:
        raise InputError(f"{path}: not a readable WebDataset tar ({error})") from error
    return pictures, classes


def _replaces(extension: str, other: str, where: str) -> bool:
    """Whether `k.extension` is the image of a sample and not `k.other`: `k.jpg` is, beside `k.seg.png`.

    Raises:
        InputError: Neither does.
    """
    if ("." in extension) == ("." in other):
        raise InputError(f"{where}.{other} and .{extension}: two images of one sample; leave one")
    return "." in other


def _wnid_of(text: str, where: str) -> str:
    """The class in a `.cls` member: a wnid, or an index into ImageNet's 1000."""
    if WNID.fullmatch(text):
        return text
    names = imagenet_wnids()
    if text.isdigit() and int(text) < len(names):
        return names[int(text)]
    raise InputError(f"{where}: {text!r} is neither a wnid nor an ImageNet index from 0 to 999")
