from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from impure.manifests.base.errors import InputError, WriteError
from impure.purifier.defences.files.purify_files import purify_path, read_image
from impure.purifier.riae.model import RIAE

CPU = torch.device("cpu")
GREY = np.linspace(0, 255, 20 * 30).reshape(20, 30).astype(np.uint8)


@pytest.fixture
def model(riae: Callable[[str], RIAE]) -> RIAE:
    return riae("both")


def test_every_kind_of_image(tmp_path: Path) -> None:
    grey = Image.fromarray(GREY)
    grey.save(tmp_path / "grey.png")
    grey.convert("RGB").convert("CMYK").save(tmp_path / "cmyk.tif")
    grey.convert("P").save(tmp_path / "palette.png")
    grey.convert("RGBA").save(tmp_path / "rgba.png")
    Image.fromarray(GREY.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    for path in tmp_path.iterdir():
        image = read_image(path)
        assert image.shape == (3, 20, 30), path
        assert np.abs(image[0].numpy() * 255 - GREY).max() < 1.01, path


@pytest.mark.parametrize("name", ["turned.jpg", "turned.png", "turned.tif"])
def test_turned_upright(tmp_path: Path, name: str) -> None:
    image = Image.fromarray(GREY).convert("RGB")
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise
    image.save(tmp_path / name, exif=exif)
    upright = read_image(tmp_path / name)
    assert upright.shape == (3, 30, 20)
    assert upright[0, 0, -1] < 0.1 and upright[0, -1, 0] > 0.9


def test_folder(tmp_path: Path, model: RIAE) -> None:
    source = tmp_path / "in"
    (source / "sub").mkdir(parents=True)
    picture = Image.fromarray(GREY).convert("RGB")
    picture.save(source / "a.jpg")
    picture.save(source / "a.png")
    picture.save(source / "sub" / "b.JPEG")
    (source / "broken.png").write_bytes((source / "a.png").read_bytes()[:100])
    (source / "empty.jpg").write_bytes(b"")
    (source / "notes.txt").write_text("no image")
    picture.save(source / "drawing.eps")
    result = purify_path(source, tmp_path / "out", model, CPU)
    assert (result.written, result.ignored) == (3, 2)
    assert [path.name for path, _ in result.skipped] == ["broken.png", "empty.jpg"]
    written = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*"))
    assert written == ["a.jpg.png", "a.png.png", "sub/b.png"]
    with Image.open(tmp_path / "out" / "sub" / "b.png") as image:
        assert image.format == "PNG" and image.mode == "RGB" and image.size == (30, 20)


def test_one_image_equals_purify(tmp_path: Path, model: RIAE) -> None:
    Image.fromarray(GREY[:, :24]).save(tmp_path / "a.png")  # no larger than the model's positions reach
    result = purify_path(tmp_path / "a.png", tmp_path / "b.png", model, CPU, seed=3, samples=2)
    assert (result.written, result.skipped) == (1, ())
    with torch.no_grad():
        wanted = model.purify(read_image(tmp_path / "a.png")[None], seed=3, samples=2)[0]
    assert torch.equal((wanted * 255).round(), (read_image(tmp_path / "b.png") * 255).round())
    (tmp_path / "folder").mkdir()
    purify_path(tmp_path / "a.png", tmp_path / "folder", model, CPU)
    assert (tmp_path / "folder" / "a.png").is_file()


def test_wrong_paths(tmp_path: Path, model: RIAE) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    (tmp_path / "empty").mkdir()
    for source, destination, word in (
        ("missing", "out", "no such image or folder"),
        ("a.png", "b.jpg", "name ending in .png"),
        ("a.png", "a.png", "is the image itself"),
        ("empty", "out", "no image below it"),
        (".", "out", "must be a folder outside"),
        ("empty", "a.png", "must be a folder outside"),
    ):
        with pytest.raises(InputError, match=word):
            purify_path(tmp_path / source, tmp_path / destination, model, CPU)
    (tmp_path / "broken.png").write_bytes(b"x")
    assert purify_path(tmp_path / "broken.png", tmp_path / "c.png", model, CPU).written == 0


def test_unwritable_destination(tmp_path: Path, model: RIAE) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WriteError, match="cannot be written"):
        purify_path(tmp_path / "a.png", tmp_path / "file" / "b.png", model, CPU)


def test_large_images_are_purified_in_tiles(tmp_path: Path, model: RIAE) -> None:
    Image.fromarray(GREY).save(tmp_path / "large.png")  # 20 x 30, and positions reach 24 pixels
    result = purify_path(tmp_path / "large.png", tmp_path / "out.png", model, CPU)
    assert (result.written, result.tiled) == (1, 1)
    assert read_image(tmp_path / "out.png").shape == (3, 20, 30)
