import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from impure.manifests.base.errors import InputError
from impure.pipeline.sources.folder import read_ground_truth
from impure.pipeline.sources.open_source import open_source


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(path, "JPEG")
    return path


def test_a_folder_of_class_folders(tmp_path):
    for name in (
        "val/n02102040/b.JPEG",
        "val/n01440764/a.jpg",
        "val/n01440764/.hidden",
        "train/n01440764/t.png",
    ):
        picture(tmp_path / name)
    (tmp_path / "val/n01440764/notes.txt").write_text("no image")
    source = open_source(str(tmp_path))
    assert [(image.source_id, image.wnid) for image in source.images("val")] == [
        ("val/n01440764/a.jpg", "n01440764"),
        ("val/n02102040/b.JPEG", "n02102040"),
    ]
    photo = source.load(source.images("val")[0], 64)
    assert photo.picture.size == (30, 20)
    assert len(photo.sha256) == 64


@pytest.mark.parametrize(
    "text",
    [
        "ImageId,PredictionString\nILSVRC2012_val_00000001,n03995372 85 1 499 272 \n",
        "ILSVRC2012_val_00000001.JPEG n03995372\n",
    ],
)
def test_a_flat_validation_folder_with_ground_truth(tmp_path, text):
    picture(tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG")
    (tmp_path / "LOC_val_solution.csv").write_text(text)
    (image,) = open_source(str(tmp_path)).images("val")
    assert (image.source_id, image.wnid) == ("val/ILSVRC2012_val_00000001.JPEG", "n03995372")


def test_ground_truth_may_have_tabs_blanks_and_empty_lines(tmp_path):
    (tmp_path / "truth.txt").write_text("a.JPEG \t n03995372\n\nb  n01440764\n")
    assert read_ground_truth(tmp_path / "truth.txt") == {"a": "n03995372", "b": "n01440764"}


def test_ground_truth_may_begin_with_a_byte_order_mark_and_names_may_hold_spaces_and_dots(tmp_path):
    lines = "my cat, 1.jpg,n03995372 85 1\nview.of.a b.JPEG n01440764\nplain name\tn02102040\n"
    (tmp_path / "truth.txt").write_text(lines, encoding="utf-8-sig")
    assert read_ground_truth(tmp_path / "truth.txt") == {
        "my cat, 1": "n03995372",
        "view.of.a b": "n01440764",
        "plain name": "n02102040",
    }
    (tmp_path / "truth.txt").write_text("ImageId,PredictionString\na,n03995372\n", encoding="utf-8-sig")
    assert read_ground_truth(tmp_path / "truth.txt") == {"a": "n03995372"}


def test_files_that_macos_adds_are_no_images(tmp_path):
    for name in ("val/n01440764/a.JPEG", "train/b.JPEG"):
        path = picture(tmp_path / name)
        path.with_name(f"._{path.name}").write_bytes(b"AppleDouble")
    (tmp_path / "val_labels.txt").write_text("b n01440764\n")
    source = open_source(str(tmp_path))
    assert [image.source_id for image in source.images("val")] == ["val/n01440764/a.JPEG"]
    assert [image.source_id for image in source.images("train")] == ["train/b.JPEG"]
    data = (tmp_path / "train/b.JPEG").read_bytes()
    members = [("._k.jpg", b"x"), ("._k.cls", b"\xff"), ("k.jpg", data), ("k.cls", b"0")]
    write_tar(tmp_path / "a.tar", members)
    assert len(open_source(str(tmp_path / "a.tar")).images("val")) == 1


def test_members_with_dots_in_their_ending_or_capitals_are_not_passed_over(tmp_path):
    data = picture(tmp_path / "a.jpg").read_bytes()
    members = [("k1.crop.jpg", data), ("k1.cls", b"0"), ("k2.JPG", data), ("k2.CLS", b"217")]
    write_tar(tmp_path / "a.tar", members)
    source = open_source(str(tmp_path / "a.tar"))
    images = source.images("val")
    assert [(image.source_id, image.wnid) for image in images] == [
        ("val/a.tar/k1.crop.jpg", "n01440764"),
        ("val/a.tar/k2.JPG", "n02102040"),
    ]
    assert source.load(images[0], 64).picture.size == (30, 20)


@pytest.mark.parametrize("first", ["k.jpg", "k.crop.jpg"])
def test_the_plain_one_of_two_images_counts_and_two_of_a_kind_are_refused(tmp_path, first):
    names = sorted(["k.jpg", "k.crop.jpg"], key=lambda name: name != first)
    write_tar(tmp_path / "a.tar", [(name, b"") for name in names] + [("k.cls", b"0")])
    (image,) = open_source(str(tmp_path / "a.tar")).images("val")
    assert image.source_id == "val/a.tar/k.jpg"
    write_tar(tmp_path / "a.tar", [("k.a.jpg", b"1"), ("k.crop.jpg", b"2"), ("k.cls", b"0")])
    with pytest.raises(InputError, match=r"a\.tar: k\.a\.jpg and \.crop\.jpg: two images of one sample"):
        open_source(str(tmp_path / "a.tar")).images("val")


def test_an_empty_class_folder_is_named(tmp_path):
    picture(tmp_path / "val/n01440764/a.JPEG")
    (tmp_path / "val" / "n02102040").mkdir()
    with pytest.raises(InputError, match="n02102040: no images"):
        open_source(str(tmp_path)).images("val")


def test_ground_truth_that_helps_nobody_is_refused(tmp_path):
    picture(tmp_path / "val" / "a.JPEG")
    with pytest.raises(InputError, match="--labels"):
        open_source(str(tmp_path)).images("val")
    devkit = tmp_path / "truth.txt"
    devkit.write_text("490\n361\n")
    with pytest.raises(InputError, match="line 1"):
        read_ground_truth(devkit)
    devkit.write_text("b n03995372\n")
    with pytest.raises(InputError, match="no class for a"):
        open_source(str(tmp_path), devkit).images("val")


def write_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_webdataset_tars(tmp_path):
    data = picture(tmp_path / "a.jpg").read_bytes()
    members = [
        ("x/k1.jpg", data),
        ("x/k1.cls", b"217"),
        ("k2.jpeg", data),
        ("k2.cls", b"n01440764"),
        ("k3.jpg", data),
    ]
    write_tar(tmp_path / "imagenet-0.tar", members)
    source = open_source(str(tmp_path / "imagenet-*.tar"))
    images = source.images("val")
    assert [(image.source_id, image.wnid) for image in images] == [
        ("val/imagenet-0.tar/x/k1.jpg", "n02102040"),
        ("val/imagenet-0.tar/k2.jpeg", "n01440764"),
    ]
    assert source.load(images[0], 64).picture.size == (30, 20)


def test_equal_names_in_several_tars_and_folders_stay_apart(tmp_path):
    for number, wnid in enumerate((b"n01440764", b"n02102040")):
        picture(tmp_path / str(number) / "a.jpg")
        data = (tmp_path / str(number) / "a.jpg").read_bytes()
        members = [
            (f"{folder}/0.{kind}", content)
            for folder in "xy"
            for kind, content in (("jpg", data), ("cls", wnid))
        ]
        write_tar(tmp_path / str(number) / "000.tar", members)
    images = open_source(str(tmp_path / "*" / "000.tar")).images("train")
    assert len({image.source_id for image in images}) == 4
    assert [image.wnid for image in images] == ["n01440764"] * 2 + ["n02102040"] * 2


@pytest.mark.parametrize("label", [b"1000", b"-1", b"dog", b"\xff"])
def test_webdataset_labels_that_are_no_class_are_refused(tmp_path, label):
    write_tar(tmp_path / "a.tar", [("k.jpg", b""), ("k.cls", label)])
    with pytest.raises(InputError, match=r"a\.tar"):
        open_source(str(tmp_path / "a.tar")).images("val")


@pytest.mark.parametrize("where", ["nowhere", "nowhere.tar"])
def test_a_source_that_is_not_there(tmp_path, where):
    with pytest.raises(InputError, match="no such"):
        open_source(str(tmp_path / where))


def test_folders_without_images(tmp_path):
    with pytest.raises(InputError, match=r"train.*no such folder"):
        open_source(str(tmp_path)).images("train")
    (tmp_path / "val" / "n01440764").mkdir(parents=True)
    with pytest.raises(InputError, match="no images"):
        open_source(str(tmp_path)).images("val")


def test_the_builtin_source_draws_the_same_picture_twice():
    source = open_source("builtin")
    images = source.images("val")
    assert len({image.source_id for image in images}) == len(images)
    assert source.load(images[5], 48).sha256 == source.load(images[5], 48).sha256
