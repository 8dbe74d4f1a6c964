import hashlib
import multiprocessing
import os
import shutil
import socket
import time

import pytest

from impure.manifests.base.canonical_json import digest
from impure.manifests.base.errors import InputError
from impure.manifests.base.files import read_json, write_json
from impure.manifests.checks.verify import verify
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.layout import is_own, parse_sums
from impure.manifests.sharing import connect as connect_module
from impure.manifests.sharing import pull as pull_module
from impure.manifests.sharing import remote_errors
from impure.manifests.sharing.connect import connect, open_remote
from impure.manifests.sharing.pull import pull
from impure.manifests.sharing.push import push
from impure.manifests.sharing.remote_collection import RemoteCollection
from impure.manifests.sharing.remote_errors import RemoteError
from impure.manifests.sharing.staging import shard_ids_in

PGD = "small/pgd/train/000000"


def contents(root):
    files = (path for path in root.rglob("*") if path.is_file() and "_tmp" not in path.parts)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def write_sums(root):
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(contents(root).items())}
    del sums["SHA256SUMS"]
    (root / "SHA256SUMS").write_text("".join(f"{value}  {name}\n" for name, value in sums.items()))


def reconfigure(root, shard_id, **change):
    """Make a shard look as if another config had made it."""
    path = root / f"{shard_id}.done.json"
    marker = read_json(path)
    marker["config"] |= change
    write_json(path, marker | {"config_digest": digest(marker["config"])})


def enlarge(root, shard_id, size):
    """Let zeros follow a tar's end, where no reader looks, until it is large enough to break off inside."""
    path = root / f"{shard_id}.tar"
    data = path.read_bytes()
    data += bytes(size - len(data))
    path.write_bytes(data)
    marker = read_json(root / f"{shard_id}.done.json")
    marker["tar"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    write_json(root / f"{shard_id}.done.json", marker)
    write_sums(root)


# --- pulling from the web ---


def test_a_whole_pull_brings_the_same_bytes(web, shared, tmp_path):
    seen = []
    done = pull(web.url, tmp_path / "here", progress=lambda count, total: seen.append((count, total)))
    assert contents(tmp_path / "here") == contents(shared)
    assert (done.present, done.card_copied) == (0, True)
    assert done.shards == len(Collection(shared).marked())
    assert sum(count for count, _ in seen) == done.bytes == seen[-1][1]
    assert verify(Collection(tmp_path / "here"), "decode") == []
    assert os.listdir(tmp_path / "here" / "_tmp").count("pull.lock") == 1
    assert not list((tmp_path / "here" / "_tmp").glob("pull-*"))


def test_a_second_pull_fetches_nothing_large(web, tmp_path):
    first = pull(web.url, tmp_path / "here")
    web.sent.clear()
    again = pull(web.url, tmp_path / "here")
    assert (again.shards, again.present, again.bytes) == (first.shards, first.shards, 0)
    assert web.bytes_of(".tar") == web.bytes_of(".done.json") == web.bytes_of(".parquet") == 0


def test_a_partial_pull_brings_plans_and_what_was_asked_for(web, shared, tmp_path):
    root = tmp_path / "here"
    done = pull(web.url, root, attacks=["pgd"], splits=["test"])
    assert not done.card_copied
    assert {str(shard_id).rpartition("/")[0] for shard_id in Collection(root).marked()} == {"small/pgd/test"}
    assert set(Collection(root).plans()) == set(Collection(shared).plans())
    assert Collection(root).about() == Collection(shared).about()
    assert not (root / "SHA256SUMS").exists()
    assert pull(web.url, root).card_copied  # the rest: now the card describes it
    assert contents(root) == contents(shared)


def test_a_name_that_is_not_there_lists_those_that_are(web, tmp_path):
    with pytest.raises(InputError, match="no shards of attack 'cw'; it has clean, fgsm, pgd"):
        pull(web.url, tmp_path / "here", attacks=["cw"])


def test_clean_images_kept_once_come_along(web, shared, tmp_path):
    for shard_id in Collection(shared).marked():
        if shard_id.attack != "clean":
            reconfigure(shared, shard_id, storage={"profile": "clean-once", "encoding": "png"})
    write_sums(shared)
    done = pull(web.url, tmp_path / "here", attacks=["pgd"], splits=["test"])
    assert done.shards == len(Collection(tmp_path / "here").marked())
    again = pull(web.url, tmp_path / "here", attacks=["clean", "pgd"], splits=["test"])
    assert again.shards == again.present == done.shards  # those asked for do not come along once more
    kinds = {(shard_id.attack, shard_id.split) for shard_id in Collection(tmp_path / "here").marked()}
    assert kinds == {("pgd", "test"), ("clean", "test")}


# --- interrupted ---


LARGE = 10 << 20


def test_a_cut_connection_is_taken_up_where_it_broke(web, shared, tmp_path):
    enlarge(shared, PGD, LARGE)
    web.cuts[f"{PGD}.tar"] = [LARGE // 2]
    pull(web.url, tmp_path / "here", attacks=["pgd"], splits=["train"])
    (first, sent), *more = [(start, count) for path, start, count in web.sent if path == f"{PGD}.tar"]
    assert (first, sent) == (0, LARGE // 2)
    assert 0.25 * LARGE < more[0][0] <= LARGE // 2  # but for what the client had not read yet
    assert sum(count for _, count in more) == LARGE - more[0][0]
    assert (tmp_path / "here" / f"{PGD}.tar").read_bytes() == (shared / f"{PGD}.tar").read_bytes()


def test_a_pull_that_gave_up_goes_on_later(web, shared, tmp_path):
    enlarge(shared, PGD, LARGE)
    web.cuts[f"{PGD}.tar"] = [LARGE // 2, 100, 100]
    with pytest.raises(RemoteError, match=rf"{web.url}/{PGD}\.tar: "):
        pull(web.url, tmp_path / "here", attacks=["pgd"], splits=["train"])
    assert PGD not in map(str, Collection(tmp_path / "here").marked())
    web.sent.clear()
    pull(web.url, tmp_path / "here", attacks=["pgd"], splits=["train"])
    assert web.bytes_of(f"{PGD}.tar") < 0.95 * LARGE  # the client loses what it had not read yet
    assert (tmp_path / "here" / f"{PGD}.tar").read_bytes() == (shared / f"{PGD}.tar").read_bytes()


def test_a_killed_pull_goes_on_later(web, shared, tmp_path):
    enlarge(shared, PGD, LARGE)
    web.stalls[f"{PGD}.tar"] = [LARGE // 2]
    child = multiprocessing.get_context("spawn").Process(target=pull, args=(web.url, tmp_path / "here"))
    child.start()
    assert web.stalled.wait(60)
    part = next(iter(wait_for(lambda: list((tmp_path / "here/_tmp").glob(f"pull-*/{PGD}.tar")))))
    wait_for(lambda: part.stat().st_size > 0.4 * LARGE)
    child.kill()
    child.join()
    web.sent.clear()
    assert pull(web.url, tmp_path / "here").card_copied
    assert web.bytes_of(f"{PGD}.tar") < 0.95 * LARGE  # the client loses what it had not read yet
    for left in (tmp_path / "here").rglob(".*.tmp"):  # of the kill; no reader looks at it
        left.unlink()
    assert contents(tmp_path / "here") == contents(shared)


def wait_for(condition):
    for _ in range(600):
        if result := condition():
            return result
        time.sleep(0.05)
    raise TimeoutError


def test_a_kill_between_the_renames_is_mended_without_a_download(web, tmp_path):
    root = tmp_path / "here"
    pull(web.url, root)
    (root / f"{PGD}.done.json").unlink()
    (root / f"{PGD}.parquet").unlink()
    web.sent.clear()
    pull(web.url, root)
    assert contents(root) == contents(web.root)
    assert web.bytes_of(".tar") == 0


def test_what_a_killed_pull_left_of_other_bytes_is_thrown_away(web, tmp_path, monkeypatch):
    share = open_remote(web.url)
    size, sums = (web.root / f"{PGD}.tar").stat().st_size, share.sums
    part = tmp_path / "part"
    for left in (bytes(1000), bytes(size), bytes(size + 5)):
        part.write_bytes(left)
        counts = []
        share.download(f"{PGD}.tar", part, size, sums[f"{PGD}.tar"], counts.append)
        assert part.read_bytes() == (web.root / f"{PGD}.tar").read_bytes()
        assert sum(counts) == size


def test_a_server_error_that_passes_is_waited_for(web, tmp_path):
    web.statuses["SHA256SUMS"] = [503, 429]
    web.statuses[f"{PGD}.tar"] = [500]
    pull(web.url, tmp_path / "here", attacks=["pgd"])
    assert (tmp_path / "here" / f"{PGD}.tar").exists()


# --- refused ---


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


def test_two_pulls_at_once_do_no_harm(web, tmp_path):
    with pull_module._staging(Collection(tmp_path), "x"), pytest.raises(InputError, match="another pull"):
        pull(web.url, tmp_path)


# --- other filesystems ---


def test_a_folder_can_be_pulled_and_pushed_to(shared, tmp_path):
    assert pull(f"file://{shared}", tmp_path / "one").card_copied
    (tmp_path / "one" / "SHA256SUMS").unlink()  # no need of it where files can be listed
    done = push(tmp_path / "one", str(tmp_path / "two"))
    assert done.card_copied
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert push(tmp_path / "one", f"file://{tmp_path}/two").present == done.shards


def test_an_old_card_and_damaged_files_are_not_pushed(shared, tmp_path):
    with pytest.raises(InputError, match="takes no files"):
        push(shared, "http://127.0.0.1:1")
    shutil.rmtree(shared / "small/fgsm")
    with pytest.raises(InputError, match="an old card"):
        push(shared, "memory://destination")
    write_sums(shared)
    path = shared / f"{PGD}.tar"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="impure-data verify"):
        push(shared, "memory://destination")
    assert PGD not in [str(shard_id) for shard_id in shard_ids_in(connect("memory://destination").names())]


@pytest.mark.filterwarnings("ignore")  # botocore's and moto's own
def test_a_round_trip_through_s3(shared, tmp_path, bucket):
    order = []
    original = RemoteCollection.upload

    def upload(self, path, name):
        order.append(name)
        original(self, path, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RemoteCollection, "upload", upload)
        first = push(shared, bucket)
    assert (first.present, first.card_copied) == (0, True)
    assert order[-1] == "SHA256SUMS"
    assert all(
        order.index(name) > max(order.index(name.replace("done.json", end)) for end in ("tar", "parquet"))
        for name in order
        if name.endswith(".done.json")
    )
    assert push(shared, bucket).present == first.shards
    assert pull(bucket, tmp_path / "here").card_copied
    assert contents(tmp_path / "here") == contents(shared)

    part, entry = tmp_path / "begun", read_json(shared / f"{PGD}.done.json")["tar"]
    part.write_bytes((shared / f"{PGD}.tar").read_bytes()[:1000])
    counts = []
    open_remote(bucket).download(f"{PGD}.tar", part, entry["bytes"], entry["sha256"], counts.append)
    assert counts == [1000, entry["bytes"] - 1000]

    partial = pull(bucket, tmp_path / "part", attacks=["fgsm"], splits=["test"])
    more = push(tmp_path / "part", bucket)
    assert (partial.card_copied, more.card_copied, more.present) == (False, False, more.shards)
    reconfigure(tmp_path / "part", "small/fgsm/test/000000", seed=7)
    with pytest.raises(InputError, match=r"seed \(there 0, now 7\).*push elsewhere"):
        push(tmp_path / "part", bucket)
    with pytest.raises(InputError, match="no committed shard there"):
        pull("s3://lab/nothing", tmp_path / "x")
    with pytest.raises(RemoteError, match="s3://absent/x/"):
        pull("s3://absent/x", tmp_path / "x")
