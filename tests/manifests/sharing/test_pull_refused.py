"""What a pull refuses: addresses, names, bytes and configs that are not what they should be."""

import shutil
import socket

import pytest

from impure.manifests.base.errors import InputError
from impure.manifests.base.files import read_json, write_json
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.layout import is_own, parse_sums
from impure.manifests.sharing import connect as connect_module
from impure.manifests.sharing import remote_errors
from impure.manifests.sharing.pull import pull
from impure.manifests.sharing.remote_errors import RemoteError
from tests.manifests.sharing.test_transfer import PGD, contents, reconfigure, write_sums


@pytest.mark.parametrize(("status", "reason"), [(403, "403"), (404, "not found"), (503, "503")])
def test_a_refusal_names_address_and_reason(web, tmp_path, status, reason):
    web.statuses[f"{PGD}.tar"] = [status] * 5
    with pytest.raises(RemoteError, match=rf"{web.url}/{PGD}\.tar: .*{reason}") as caught:
        pull(web.url, tmp_path / "here")
    assert "\n" not in str(caught.value)


def test_addresses_that_lead_nowhere(tmp_path, monkeypatch):
    monkeypatch.setattr(remote_errors, "RETRY_DELAYS", ())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(RemoteError, match=rf"http://127.0.0.1:{port}/SHA256SUMS: .*Connect"):
        pull(f"http://127.0.0.1:{port}", tmp_path / "here")
    with pytest.raises(RemoteError, match=r"http://nowhere.invalid/x/SHA256SUMS"):
        pull("http://nowhere.invalid/x", tmp_path / "here")
    with pytest.raises(InputError, match="foo://x: not an address"):
        pull("foo://x", tmp_path / "here")
    with pytest.raises(InputError, match=r"impure\[gs\]"):
        pull("gs://bucket/x", tmp_path / "here")
    with pytest.raises(InputError, match="no committed shard there"):
        pull(str(tmp_path / "nothing"), tmp_path / "here")


def test_a_silent_server_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(remote_errors, "RETRY_DELAYS", ())
    monkeypatch.setattr(connect_module, "_SERVER_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(RemoteError, match=f"{url}/SHA256SUMS: no answer in time"):
            pull(url, tmp_path / "here")


def test_no_sums_no_pull(web, shared, tmp_path):
    (shared / "SHA256SUMS").unlink()
    with pytest.raises(RemoteError, match="its owner should run `impure-data card`"):
        pull(web.url, tmp_path / "here")


@pytest.mark.parametrize("name", ["../x.tar", "/etc/passwd", "a/../../x", "a\\..\\b.tar"])
def test_names_that_lead_out_are_refused(web, shared, tmp_path, name):
    (shared / "SHA256SUMS").write_text(f"{'0' * 64}  {name}\n")
    with pytest.raises(InputError, match="leads out of the collection"):
        pull(web.url, tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_only_names_of_a_collection_count():
    names = ("a/b/test/000000.tar", "plans/a-test.parquet", "README.md", "a/b/test/000000.done.json")
    others = (
        "a/b/test/0.tar", "a/b/val/000000.tar", "a/b/test/000000.tar.gz", ".git/config",
        "plans/../a-test.parquet", "a/b/test/000000.pkl", "_tmp/b/test/000000.tar", "a/b/test/٠٠٠٠٠٠.tar",
        "a/b/test/000000.tar\n",
    )  # fmt: skip
    assert all(map(is_own, names))
    assert not any(map(is_own, others))
    assert parse_sums(f"{'0' * 64}  evil.sh\n", "x") == {}
    with pytest.raises(InputError, match="not a list of SHA-256 sums"):
        parse_sums("<html>", "x")


@pytest.mark.parametrize(
    "name", [f"{PGD}.tar", f"{PGD}.parquet", f"{PGD}.done.json", "plans/small-train.parquet"]
)
def test_flipped_bytes_are_found(web, tmp_path, name):
    path = web.root / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(RemoteError, match=f"{web.url}/{name}: has another SHA-256"):
        pull(web.url, tmp_path / "here", attacks=["pgd"], splits=["train"])
    assert PGD not in map(str, Collection(tmp_path / "here").marked())


def test_a_file_longer_than_promised_is_not_read_to_its_end(web, tmp_path):
    with (web.root / f"{PGD}.tar").open("ab") as file:
        file.write(bytes(1 << 16))
    with pytest.raises(RemoteError, match=r"has more than \d+ bytes"):
        pull(web.url, tmp_path / "here", attacks=["pgd"], splits=["train"])


def test_a_marker_of_another_shard_is_refused(web, shared, tmp_path):
    shutil.copy(shared / "small/fgsm/train/000000.done.json", shared / f"{PGD}.done.json")
    write_sums(shared)
    with pytest.raises(InputError, match="marker of another shard"):
        pull(web.url, tmp_path / "here")


def test_a_shard_of_another_config_is_refused_naming_the_fields(web, tmp_path):
    root = tmp_path / "here"
    pull(web.url, root)
    before = contents(root)
    reconfigure(root, PGD, seed=7)
    with pytest.raises(InputError, match=r"seed \(there 7, now 0\).*pull into another folder"):
        pull(web.url, root)
    (root / f"{PGD}.done.json").write_bytes(before[f"{PGD}.done.json"])
    marker = read_json(root / f"{PGD}.done.json")
    marker["tar"]["sha256"] = "0" * 64
    write_json(root / f"{PGD}.done.json", marker)
    with pytest.raises(InputError, match="another run"):
        pull(web.url, root)


def test_another_plan_is_refused_naming_the_fields(web, shared, tmp_path, imagenet, card, run):
    made = run(
        "data", "sample", "--images", imagenet, "--target", card, "--per-class", 2, "--shard-size", 5,
        "--batch-size", 4, "--threads", 1, "--out", tmp_path / "here",
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    with pytest.raises(InputError, match=r"per_class \(there 3, now 2\)|per_class \(there 2, now 3\)"):
        pull(web.url, tmp_path / "here")
    assert Collection(tmp_path / "here").marked() == []


@pytest.mark.parametrize("name", [f"{PGD}.done.json", "plans/small-train.parquet"])
def test_broken_small_files_are_named_by_their_address(web, shared, tmp_path, name):
    (shared / name).write_bytes(b"{}")
    write_sums(shared)
    with pytest.raises(InputError, match=f"^{web.url}/{name}: refused"):
        pull(web.url, tmp_path / "here")
