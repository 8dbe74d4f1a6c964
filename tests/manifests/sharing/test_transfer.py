import hashlib
import multiprocessing
import os
import shutil
import time

import pytest

from impure.manifests.base.canonical_json import digest
from impure.manifests.base.errors import InputError
from impure.manifests.base.files import read_json, write_json
from impure.manifests.checks.verify import verify
from impure.manifests.collection.collection import Collection
from impure.manifests.sharing import pull as pull_module
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
    assert 0.4 * LARGE < more[0][0] <= LARGE // 2  # but for what the client had not read yet
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
