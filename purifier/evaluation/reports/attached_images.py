"""The plots and strips that lie beside a document, as pictures of a page; files of strangers too."""

import glob
import io
from pathlib import Path

from PIL import Image

from impure.manifests.base.errors import InputError
from impure.manifests.base.images import MAX_PIXELS
from impure.purifier.evaluation.reports.page import Picture, data_uri

MAX_IMAGES = 40  # of one document
MAX_BYTES = 32 << 20  # of one image


def attached_images(document: Path) -> tuple[list[Picture], list[str]]:
    """Images of the document's name, or with a hyphen and more behind it; SVG rather than PNG.

    A browser draws an SVG inside an image without running or loading anything.

    Args:
        document: The JSON file.

    Returns:
        The images, and a line for each that is refused.
    """
    pictures: list[Picture] = []
    complaints: list[str] = []
    for path in _paths(document)[:MAX_IMAGES]:
        try:
            pictures.append(_picture(path, document))
        except (InputError, OSError) as error:
            complaints.append(f"{path.name}: {error}")
    return pictures, complaints


def _paths(document: Path) -> list[Path]:
    """The images, in the order of their names; of two that differ in their ending alone the SVG."""
    stem = glob.escape(document.stem)
    paths = sorted([*document.parent.glob(f"{stem}.*"), *document.parent.glob(f"{stem}-*")])
    images = {path.stem: path for path in paths if path.suffix == ".png" and path.is_file()}
    images |= {path.stem: path for path in paths if path.suffix == ".svg" and path.is_file()}
    return [images[stem] for stem in sorted(images)]


def _picture(path: Path, document: Path) -> Picture:
    """One image inside an address.

    Raises:
        InputError: It is too large, or no such image.
    """
    if (size := path.stat().st_size) > MAX_BYTES:
        raise InputError(f"its {size} bytes are more than {MAX_BYTES}")
    content = path.read_bytes()
    caption = path.stem.removeprefix(f"{document.stem}-")
    if path.suffix == ".png":
        _check_png(content)
        return Picture(caption, data_uri(content, "image/png"))
    if b"<svg" not in content[:4096] or b"<!ENTITY" in content:
        raise InputError("it is no plain SVG")
    return Picture(caption, data_uri(content, "image/svg+xml"))


def _check_png(content: bytes) -> None:
    """Make sure that a browser can hold a PNG.

    Raises:
        InputError: It is none, or has too many pixels.
    """
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            pixels = image.width * image.height
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError("it is no PNG") from error
    if pixels > MAX_PIXELS:
        raise InputError(f"its {pixels} pixels are more than {MAX_PIXELS}")
