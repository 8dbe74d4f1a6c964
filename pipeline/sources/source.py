"""The interface of every source of clean images."""

import os
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

from PIL import Image

IMAGE_SUFFIXES = frozenset((".jpeg", ".jpg", ".png", ".webp", ".bmp", ".tif", ".tiff"))
WNID = re.compile(r"n\d{8}")


@dataclass(frozen=True, slots=True)
class SourceImage:
    """One image of a source: its path below the image root, and its class."""

    source_id: str
    wnid: str


@dataclass(frozen=True, slots=True)
class Photo:
    """A decoded image and the SHA-256 of the bytes it came from."""

    picture: Image.Image
    sha256: str


class Source(Protocol):
    """Lists images with their classes, and decodes one."""

    @property
    def name(self) -> str:
        """Short path-safe name: collections are named after it."""

    def images(self, split: str) -> list[SourceImage]:
        """Every image of ImageNet's split `train` or `val`, in a fixed order."""

    def load(self, image: SourceImage, size: int) -> Photo:
        """Decode one image; only the built-in source uses `size`, the shorter side in pixels.

        Raises:
            InputError: It cannot be had. The message is kept in plans and manifests, which are shared: it
                names the image by its `source_id` and holds no other path.
        """


def is_image(name: str) -> bool:
    """Whether a file is an image by its name; macOS's `._` files and other hidden ones are none."""
    return not name.startswith(".") and PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def as_text(name: str) -> str:
    r"""A file's name as text that can be stored: bytes that are not UTF-8 stand there as `\xe9`."""
    return os.fsencode(name).decode(errors="backslashreplace")


def as_file_name(text: str) -> str:
    """The file's name that `as_text` made a text of."""
    return re.sub(r"\\x([89a-f][0-9a-f])", lambda byte: os.fsdecode(bytes.fromhex(byte[1])), text)


def safe_name(name: str) -> str:
    """A folder's name as a path-safe word."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "images"
