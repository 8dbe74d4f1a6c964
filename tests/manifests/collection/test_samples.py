import io
import json
import tarfile

import numpy as np
import pytest

from impure.manifests.base.errors import InputError
from impure.manifests.base.images import encode_png
from impure.manifests.collection.samples import index_shard, read_shard

PIXELS = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
GOOD = {
    "a.clean.png": encode_png(PIXELS),
    "a.adv.png": encode_png(PIXELS[::-1]),
    "a.cls": b"7",
    "a.json": b'{"key": "a"}',
}


def tar_of(path, members, links=()):
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name, to in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, to
            tar.addfile(info)
    return path


def test_a_sample_comes_back_as_it_was(tmp_path):
    (sample,) = read_shard(tar_of(tmp_path / "x.tar", GOOD.items()))
    assert sample.key == "a"
    assert sample.label == 7
    assert sample.meta == json.loads(GOOD["a.json"])
    assert np.array_equal(sample.clean, PIXELS)
    assert np.array_equal(sample.adversarial, PIXELS[::-1])


def test_members_of_other_kinds_and_paths_are_never_looked_at(tmp_path):
    hostile = [
        ("a.pkl", b"boom"),
        ("a.pth", b"boom"),
        ("/etc/a.cls", b"1"),
        ("../b.cls", b"1"),
        ("a.txt", b"x"),
    ]
    path = tar_of(tmp_path / "x.tar", [*GOOD.items(), *hostile], links=[("c.txt", "/etc/passwd")])
    assert [each.key for each in index_shard(path)] == ["a"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"a.cls": None}, "lacks a member"),
        ({"a.cls": b"seven"}, "no class number"),
        ({"a.cls": b"1" * 64}, "at most"),
        ({"a.json": b"[" * 60_000}, "json member: not a readable JSON"),
        ({"a.json": b"[]"}, "expected a JSON object"),
        ({"a.json": b"{" + b" " * (1 << 16)}, "at most"),
        ({"a.adv.png": b"no png"}, "decoded"),
        ({"a.adv.png": encode_png(PIXELS[:4])}, "differ in size"),
    ],
)
def test_malformed_samples_are_refused_with_file_and_reason(tmp_path, change, said):
    members = {name: change.get(name, data) for name, data in GOOD.items()}
    path = tar_of(tmp_path / "x.tar", [(name, data) for name, data in members.items() if data is not None])
    with pytest.raises(InputError, match=rf"x\.tar.*{said}"):
        list(read_shard(path))


def test_doubled_members_and_links_are_refused(tmp_path):
    doubled = tar_of(tmp_path / "x.tar", [*GOOD.items(), ("a.cls", b"8")])
    with pytest.raises(InputError, match="twice"):
        index_shard(doubled)
    linked = tar_of(tmp_path / "y.tar", GOOD.items(), links=[("b.cls", "/etc/passwd")])
    with pytest.raises(InputError, match="plain file"):
        index_shard(linked)


def test_members_apart_from_their_sample_are_refused(tmp_path):
    other = {name.replace("a.", "b.", 1): data for name, data in GOOD.items()}
    first, *rest = GOOD.items()
    with pytest.raises(InputError, match=r"'a\.adv\.png' is in it twice, or apart from its sample"):
        index_shard(tar_of(tmp_path / "x.tar", [first, *other.items(), *rest]))


@pytest.mark.parametrize("keep", [0.1, 0.4, 0.7])
def test_a_truncated_tar_is_refused(tmp_path, keep):
    path = tar_of(tmp_path / "x.tar", GOOD.items())
    path.write_bytes(path.read_bytes()[: int(len(GOOD["a.clean.png"]) * 4 * keep)])
    with pytest.raises(InputError, match=r"x\.tar"):
        list(read_shard(path))


def test_what_is_no_tar_is_refused(tmp_path):
    path = tmp_path / "x.tar"
    path.write_bytes(b"\x80\x04pickle" * 200)
    with pytest.raises(InputError, match="tar"):
        index_shard(path)
