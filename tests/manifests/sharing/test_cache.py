import multiprocessing
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from impure.manifests.base.errors import InputError
from impure.manifests.base.files import sha256_file
from impure.manifests.checks.verify import verify
from impure.manifests.collection.collection import Collection, CommittedShard
from impure.manifests.collection.shard_filter import select_shards
from impure.manifests.collection.shard_id import CLEAN
from impure.manifests.sharing.cache import is_url, open_cached_shards
from impure.manifests.sharing.remote_errors import RemoteError


def test_what_is_an_address():
    assert is_url("s3://bucket/x")
    assert not is_url("/data/pairs/*/*/train/*.tar")


def test_listing_needs_no_tar(web, shared, tmp_path):
    shards = open_cached_shards(web.url, tmp_path / "cache", attacks=["pgd"], splits=["train"])
    assert [shard.shard_id for shard in shards] == [
        shard.shard_id for shard in select_shards(str(shared), attacks=["pgd"], splits=["train"])
    ]
    assert shards[0].rows()[0].num_rows
    assert shards[0].sources() == select_shards(str(shared))[0].sources()
    assert web.bytes_of(".tar") == 0
    assert open_cached_shards(f"{web.url}/small/*/test/*.tar", tmp_path / "cache")[0].shard_id.attack == CLEAN
    braces = f"{web.url}/small/{{fgsm,pgd}}/train/{{000000..000001}}.tar"
    assert len(open_cached_shards(braces, tmp_path / "cache")) == 4
    with pytest.raises(InputError, match="no shards of attack 'cw'; it has clean, fgsm, pgd"):
        open_cached_shards(web.url, tmp_path / "cache", attacks=["cw"])


def test_a_tar_comes_when_it_is_first_read(web, shared, tmp_path):
    shards = open_cached_shards(web.url, tmp_path / "cache")
    for shard in shards:
        assert sha256_file(shard.local_tar()) == shard.marker["tar"]["sha256"]
    assert verify(Collection(tmp_path / "cache"), "decode") == []
    web.sent.clear()
    for shard in open_cached_shards(web.url, tmp_path / "cache"):
        shard.local_tar()
    assert web.bytes_of(".tar") == web.bytes_of(".parquet") == web.bytes_of(".done.json") == 0


def test_without_file_locks_each_fetches_for_itself(bare_disk, web, tmp_path):
    shards = open_cached_shards(web.url, tmp_path / "cache", attacks=["pgd"], splits=["train"])
    with ThreadPoolExecutor(4) as pool:
        tars = list(pool.map(CommittedShard.local_tar, [shards[0]] * 4))
    assert {sha256_file(tar) for tar in tars} == {shards[0].marker["tar"]["sha256"]}
    assert not [path for path in (tmp_path / "cache" / "_tmp").iterdir() if path.suffix != ".lock"]


def test_a_local_shard_is_where_it_is(shared):
    shard = select_shards(str(shared))[0]
    assert shard.local_tar() == shard.tar


def read_all(shards, results):
    results.put([sha256_file(shard.local_tar()) for shard in shards])


def test_many_processes_fetch_each_tar_once(web, tmp_path):
    shards = open_cached_shards(web.url, tmp_path / "cache")
    shards[0].local_tar()  # the parent has talked to the server before it forks, as a trainer has
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    workers = [context.Process(target=read_all, args=(shards, results)) for _ in range(4)]
    for worker in workers:
        worker.start()
    expected = [shard.marker["tar"]["sha256"] for shard in shards]
    assert all(results.get(timeout=60) == expected for _ in workers)
    for worker in workers:
        worker.join()
    fetched = [path for path, _, _ in web.sent if path.endswith(".tar")]
    assert sorted(fetched) == sorted(f"{shard.shard_id}.tar" for shard in shards)


def test_a_changed_shard_replaces_the_cached_one(web, shared, tmp_path):
    before = open_cached_shards(web.url, tmp_path / "cache")[0]
    before.local_tar()
    path = shared / f"{before.shard_id}.tar"
    path.write_bytes(path.read_bytes() + bytes(512))
    path.with_suffix(".done.json").write_text(
        path.with_suffix(".done.json").read_text().replace(before.marker["tar"]["sha256"], sha256_file(path))
        .replace(f'"bytes": {before.marker["tar"]["bytes"]}', f'"bytes": {path.stat().st_size}')
    )  # fmt: skip
    sums = (shared / "SHA256SUMS").read_text().splitlines()
    names = [line.split("  ")[1] for line in sums]
    (shared / "SHA256SUMS").write_text("".join(f"{sha256_file(shared / name)}  {name}\n" for name in names))
    after = open_cached_shards(web.url, tmp_path / "cache")[0]
    assert not after.tar.exists()
    assert after.local_tar().read_bytes() == path.read_bytes()


def test_a_cache_is_of_one_address(web, shared, tmp_path):
    open_cached_shards(web.url, tmp_path / "cache", splits=["test"])
    with pytest.raises(InputError, match="cache of another address"):
        open_cached_shards(f"file://{shared}", tmp_path / "cache")
    own = shutil.copytree(shared, tmp_path / "own")
    with pytest.raises(InputError, match="a collection of its own"):
        open_cached_shards(web.url, own)


def test_a_damaged_tar_is_not_read(web, shared, tmp_path):
    shard = open_cached_shards(web.url, tmp_path / "cache")[0]
    data = bytearray((shared / f"{shard.shard_id}.tar").read_bytes())
    data[1000] ^= 1
    (shared / f"{shard.shard_id}.tar").write_bytes(data)
    with pytest.raises(RemoteError, match="has another SHA-256 than its marker says"):
        shard.local_tar()
    assert not shard.tar.exists()
