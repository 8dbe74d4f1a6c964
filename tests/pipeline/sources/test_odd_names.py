"""Photographs whose names are not UTF-8, or look like patterns."""

import io
import os
import tarfile

import pytest
from PIL import Image

from impure.manifests.base.logs import LOGGER
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.shard_filter import select_shards
from impure.pipeline.sources.open_source import open_source
from impure.pipeline.sources.source import as_file_name, as_text
from tests.common import hashes

LATIN = os.fsdecode(b"caf\xe9")


def photograph():
    data = io.BytesIO()
    Image.new("RGB", (30, 20), (90, 60, 30)).save(data, "JPEG")
    return data.getvalue()


def write_tar(path, *keys):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for key in keys:
            for ending, data in (("jpg", photograph()), ("cls", b"0")):
                member = tarfile.TarInfo(f"{key}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def test_bytes_that_are_no_utf_8_become_text_and_back():
    assert as_text(f"{LATIN} ü.jpg") == r"caf\xe9 ü.jpg"
    assert as_file_name(r"caf\xe9 ü.jpg") == f"{LATIN} ü.jpg"
    assert as_text(as_file_name(r"a\x41.jpg")) == r"a\x41.jpg"


@pytest.mark.parametrize("name", [f"{LATIN}.jpg", r"caf\xe9.jpg"])
def test_a_photograph_is_found_by_its_text(tmp_path, name):
    path = tmp_path / "val" / "n01440764" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(photograph())
    source = open_source(str(tmp_path))
    (image,) = source.images("val")
    assert image.source_id == r"val/n01440764/caf\xe9.jpg"
    assert source.load(image, 64).picture.size == (30, 20)


def test_so_is_one_in_a_tar(tmp_path):
    write_tar(tmp_path / f"{LATIN}.tar", f"{LATIN}/a")
    source = open_source(str(tmp_path / f"{LATIN}.tar"))
    (image,) = source.images("val")
    assert image.source_id == r"val/caf\xe9.tar/caf\xe9/a.jpg"
    assert source.load(image, 64).picture.size == (30, 20)


def test_tars_are_named_by_webdataset_patterns_and_folders_hold_brackets(tmp_path):
    folder = tmp_path / "out [2012]"
    for number in range(3):
        write_tar(folder / f"{number:06d}.tar", f"k{number}")
    keys = {
        pattern: [image.source_id for image in open_source(f"{folder}/{pattern}").images("val")]
        for pattern in ("000000.tar", "{000000..000001}.tar", "*.tar")
    }
    assert {pattern: len(ids) for pattern, ids in keys.items()} == {
        "000000.tar": 1, "{000000..000001}.tar": 2, "*.tar": 3,
    }  # fmt: skip


def test_a_collection_is_made_of_such_photographs_in_such_folders(run, card, imagenet, tmp_path, monkeypatch):
    monkeypatch.setattr(LOGGER, "propagate", False)  # pytest-xdist cannot hand such names on
    photographs = tmp_path / f"photos {LATIN}"
    for path in sorted(imagenet.glob("train/*/*_[0-3].png")):
        copy = photographs / path.relative_to(imagenet).with_name(f"{LATIN} {path.name}")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    root = tmp_path / f"out {LATIN} [2012]"
    made = run(
        "data", "generate", "--images", photographs, "--target", card, "--split", "train", "--attack", "fgsm",
        "--per-class", 1, "--shard-size", 2, "--batch-size", 3, "--threads", 1, "--out", root,
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    assert r"Collection: " in made.stdout and r"out caf\udce9 [2012]" in made.stdout
    assert len(hashes(root)) == 3
    (plan,) = Collection(root).plans().values()
    assert all(r"/caf\xe9 n0" in source_id for source_id in plan.table["source_id"].to_pylist())
    pattern = f"{root}/small/fgsm/train/{{000000..000001}}.tar"
    assert len(select_shards(pattern)) == len(select_shards(f"{root}/*/fgsm/train/*.tar")) == 2
    for command in (("pull", root, tmp_path / LATIN), ("ls", root)):
        assert run("data", *command).exit_code == 0, command
    refused = run("data", "query", root, "SELECT 1")
    assert refused.exit_code == 1
    assert refused.stderr.count("\n") == 1
