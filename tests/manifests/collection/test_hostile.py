"""Shards from strangers: refused in one line or read, and nothing else happens."""

import io
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from impure.manifests.base.errors import InputError
from impure.manifests.base.images import encode_png
from impure.manifests.collection.samples import index_shard, read_shard, read_stored
from impure.manifests.collection.shard_id import MAX_SAMPLES
from impure.manifests.collection.storage import Storage
from tests.manifests.hostile import (
    END,
    GIB,
    IGNORED,
    IMAGES,
    PIXELS,
    REFUSED,
    SAMPLES,
    SHARDS,
    header,
    valid,
    with_image,
)
from tests.manifests.stored import write_tar


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the readers run; afterwards nothing new may lie there."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert {path.name for path in tmp_path.iterdir()} <= {"x.tar"}
    assert not Path("/tmp/impure-was-here").exists()


def read_all(path):
    """What is stored of each sample, in any profile."""
    return [read_stored(index) for index in index_shard(path)]


@pytest.mark.parametrize("name", IGNORED)
@pytest.mark.parametrize("storage", [Storage(), Storage(encoding="webp", profile="clean-once")], ids=str)
def test_members_that_are_none_of_ours_are_passed_over(folder, name, storage):
    path = folder / "x.tar"
    attack = "clean" if storage.profile == "clean-once" else "x"
    for place in (IGNORED[name] + valid(storage, attack), valid(storage, attack) + IGNORED[name]):
        path.write_bytes(place + END)
        assert [sample.key for sample in read_shard(path)] == [sample.key for sample in SAMPLES]
        assert len(read_all(path)) == 2


@pytest.mark.parametrize("name", REFUSED)
def test_hostile_headers_are_refused(folder, name):
    path = folder / "x.tar"
    for place in (REFUSED[name] + valid(), valid() + REFUSED[name]):
        path.write_bytes(place + (b"" if name.startswith("cut") else END))
        for read in (index_shard, read_shard, read_all):
            with pytest.raises(InputError, match=r"x\.tar"):
                list(read(path))


@pytest.mark.parametrize("name", IMAGES)
def test_hostile_images_are_refused(folder, name):
    path = with_image(folder / "x.tar", *IMAGES[name])
    assert len(index_shard(path)) == 1
    for read in (read_shard, read_all):
        with pytest.raises(InputError, match=r"x\.tar: sample 'k'"):
            list(read(path))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("cls", b"1_0"), ("cls", b"-1"), ("cls", b""), ("cls", b"\xb2"), ("cls", b"1e3"), ("cls", b"9" * 17),
        ("json", b"[" * 60_000), ("json", b'{"a":' * 10_000), ("json", b'{"a":' * 40 + b"1" + b"}" * 40),
        ("json", b'{"a": NaN}'), ("json", b'{"a": -Infinity}'), ("json", b'{"a": 1e999}'),
        ("json", b'{"a": ' + b"9" * 5000 + b"}"), ("json", b"\xff\xfe{}"), ("json", b"7"), ("json", b""),
        ("json", b"{" + b" " * (1 << 16) + b"}"),
    ],
)  # fmt: skip
def test_hostile_text_is_refused(folder, name, data):
    image = encode_png(PIXELS)
    made = {"k.clean.png": image, "k.adv.png": image, "k.cls": b"1", "k.json": b"{}"} | {f"k.{name}": data}
    path = write_tar(folder / "x.tar", list(made.items()))
    with pytest.raises(InputError, match=r"x\.tar"):
        list(read_shard(path))


MEASURE = """
import resource, sys
from pathlib import Path
from impure.manifests.base.errors import InputError
from impure.manifests.collection.samples import read_shard
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
list(read_shard(Path(sys.argv[1])))
before = peak()
for name in sys.argv[2:]:
    try:
        list(read_shard(Path(name)))
    except InputError:
        continue
    raise SystemExit(name + " was read")
print(peak() - before)
"""


def test_bombs_take_no_memory(tmp_path):
    """Sizes of a GiB (files with holes), images that claim or unpack to far more than they hold."""
    bombs = [with_image(tmp_path / "good.tar", "png", encode_png(PIXELS))]
    for index, (encoding, data) in enumerate(IMAGES.values()):
        bombs.append(with_image(tmp_path / f"{index}.tar", encoding, data))
    for name, kind in (
        (b"x", b"x"),
        (b"x", b"g"),
        (b"x", b"L"),
        (b"k.cls", b"0"),
        (b"k.json", b"0"),
        (b"k.adv.png", b"0"),
    ):
        bombs.append(tmp_path / f"{name.decode()}{kind.decode()}.tar")
        bombs[-1].write_bytes(header(name, GIB, kind))
        with bombs[-1].open("r+b") as file:
            file.truncate(512 + GIB + 1024)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, bombs)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 64 << 10, f"{done.stdout} KiB"


def test_a_flood_of_members_is_bounded(tmp_path):
    path = tmp_path / "x.tar"
    path.write_bytes(valid() + header(b"a.txt") * 100_000 + END)
    begun = time.process_time()
    assert len(index_shard(path)) == 2
    assert time.process_time() - begun < 20
    path.write_bytes(b"".join(header(b"k%d.cls" % index) for index in range(MAX_SAMPLES + 1)) + END)
    with pytest.raises(InputError, match=f"more than {MAX_SAMPLES} samples"):
        index_shard(path)
    path.unlink()


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_shards_that_other_tools_wrote_are_read(tmp_path, kind):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=kind) as tar:
        for sample in SAMPLES:
            for name, data in Storage().members(sample, "x"):
                info = tarfile.TarInfo(name)
                info.size, info.mtime, info.uid = (
                    len(data),
                    1700000000.25 if kind == tarfile.PAX_FORMAT else 5,
                    1000,
                )
                tar.addfile(info, io.BytesIO(data))
    assert [sample.key for sample in read_shard(path)] == [sample.key for sample in SAMPLES]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("when", [None, 0])
def test_shards_that_stock_webdataset_wrote_are_read(tmp_path, when):
    """Without `mtime` it writes the time of day, as fractions that only an extended header holds."""
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter(str(tmp_path / "x.tar"), mtime=when, encoder=False) as writer:
        for sample in SAMPLES:
            parts = {name.partition(".")[2]: data for name, data in Storage().members(sample, "x")}
            writer.write({"__key__": sample.key, **parts})
    for sample, wanted in zip(read_shard(tmp_path / "x.tar"), SAMPLES, strict=True):
        assert (sample.key, sample.label) == (wanted.key, 7)
        assert np.array_equal(sample.adversarial, wanted.adversarial)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch") / "x.tar"


@settings(max_examples=2000, deadline=None)
@given(data=SHARDS)
def test_generated_shards_are_read_or_refused(scratch, data):
    scratch.write_bytes(data)
    try:
        for stored in read_all(scratch):
            assert stored.key and "/" not in stored.key and "." not in stored.key
            assert stored.label >= 0 and stored.images
        for sample in read_shard(scratch):
            assert sample.clean.shape == sample.adversarial.shape
            assert sample.clean.dtype == np.uint8 and sample.clean.shape[2] == 3
    except InputError as error:
        assert "x.tar" in str(error)
