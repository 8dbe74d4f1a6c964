"""Walking a tar's headers: what is listed, passed over, refused."""

import io
import tarfile

import pytest

from impure.manifests.base.errors import InputError
from impure.manifests.base.tar import _MAX_EXTENDED, Member, read_members, walk


def tar_of(path, *members):
    """A tar of members given as name, type and content."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, kind, data in members:
            info = tarfile.TarInfo(name)
            info.type, info.size = kind, len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def comment(size):
    """The one record of an extended header of so many bytes."""
    start = f"{size} comment=".encode()
    return start + b"x" * (size - len(start) - 1) + b"\n"


def test_members_are_listed_with_their_places(tmp_path):
    path = tar_of(tmp_path / "x.tar", ("a", b"0", b"one"), ("b", b"0", b"x" * 600), ("c", b"0", b""))
    assert list(walk(path)) == [
        Member(path, "a", 512, 3, True), Member(path, "b", 1536, 600, True), Member(path, "c", 3072, 0, True),
    ]  # fmt: skip
    assert read_members({member.name: member for member in walk(path)}) == {
        "a": b"one",
        "b": b"x" * 600,
        "c": b"",
    }


def test_extended_headers_are_passed_over_up_to_a_size(tmp_path):
    whole = tar_of(tmp_path / "x.tar", ("pax", b"x", comment(_MAX_EXTENDED)), ("a", b"0", b"one"))
    assert [member.name for member in walk(whole)] == ["a"]
    large = tar_of(tmp_path / "y.tar", ("pax", b"x", comment(_MAX_EXTENDED + 1)), ("a", b"0", b"one"))
    with pytest.raises(InputError, match=rf"y\.tar: .*refused, {_MAX_EXTENDED + 1} bytes are more than"):
        list(walk(large))


def test_a_header_with_another_checksum_is_refused(tmp_path):
    path = tar_of(tmp_path / "x.tar", ("a", b"0", b"one"))
    data = bytearray(path.read_bytes())
    data[0] = ord("b")
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"x\.tar: header at byte 0: damaged"):
        list(walk(path))
