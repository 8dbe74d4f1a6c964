import pytest

from impure.manifests.sharing import remote_errors
from impure.manifests.sharing.connect import connect
from impure.manifests.sharing.remote_errors import RemoteError


@pytest.fixture
def remote(monkeypatch):
    """An empty collection in fsspec's memory; nobody waits before trying again."""
    monkeypatch.setattr(remote_errors, "RETRY_DELAYS", ())
    remote = connect("memory://remote-collection")
    yield remote
    if remote.filesystem.exists(remote.root):
        remote.filesystem.rm(remote.root, recursive=True)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "README.md"
    path.write_bytes(b"a card")
    return path


def test_files_come_back_as_they_left(remote, file, tmp_path):
    remote.upload(file, "README.md")
    remote.filesystem.pipe_file(f"{remote.root}/notes.txt", b"no file of a collection")
    assert remote.names() == ["README.md"]
    assert remote.read("README.md") == b"a card"
    assert not remote.is_local
    assert connect(str(tmp_path)).is_local


def test_a_file_that_arrives_cut_is_no_success(remote, file, monkeypatch):
    def put_half(path, name):
        remote.filesystem.pipe_file(name, b"a c")

    monkeypatch.setattr(remote.filesystem, "put_file", put_half)
    with pytest.raises(RemoteError, match=r"README\.md: arrived with 3 bytes") as caught:
        remote.upload(file, "README.md")
    assert caught.value.transient


def test_a_file_that_ends_early_is_no_success(remote, file, tmp_path):
    remote.upload(file, "README.md")
    with pytest.raises(RemoteError, match=r"README\.md: ended early"):
        remote.download("README.md", tmp_path / "part", 7, "0" * 64)


def test_bytes_that_no_marker_knows_are_removed(remote, file, tmp_path):
    remote.upload(file, "README.md")
    with pytest.raises(RemoteError, match="another SHA-256 than its marker says"):
        remote.download("README.md", tmp_path / "part", 6, "0" * 64)
    assert not (tmp_path / "part").exists()


def test_small_files_have_to_be_small(remote, file, monkeypatch):
    remote.upload(file, "README.md")
    monkeypatch.setattr("impure.manifests.sharing.remote_collection.MAX_SMALL", 5)
    with pytest.raises(RemoteError, match="has more than 5 bytes"):
        remote.read("README.md")
