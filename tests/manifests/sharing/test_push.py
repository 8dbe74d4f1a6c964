"""A push compares what a bucket lists: what is cut or gone there is sent again."""

import pytest

from impure.manifests.sharing.connect import connect
from impure.manifests.sharing.pull import pull
from impure.manifests.sharing.push import push
from tests.manifests.sharing.test_transfer import PGD, contents


@pytest.fixture
def place():
    """A bucket in fsspec's memory, which lists names and sizes as S3 does; empty."""
    remote = connect("memory://push-bucket")
    yield remote
    remote.filesystem.rm(remote.root, recursive=True)


@pytest.mark.parametrize("left", [0.5, 0])
def test_what_is_cut_or_gone_at_the_destination_is_sent_again(shared, tmp_path, place, left):
    first = push(shared, place.url)
    broken = {"small/clean/train/000000": "done.json", "small/fgsm/train/000000": "parquet", PGD: "tar"}
    for shard_id, ending in broken.items():
        path = f"{place.root}/{shard_id}.{ending}"
        data = place.filesystem.cat_file(path)
        place.filesystem.rm_file(path)
        if left:
            place.filesystem.pipe_file(path, data[: int(left * len(data))])
    again = push(shared, place.url)
    assert (again.present, again.card_copied) == (first.shards - len(broken), True)
    assert again.bytes == sum(file_bytes(shared, shard_id) for shard_id in broken)
    assert pull(place.url, tmp_path / "here").card_copied
    assert contents(tmp_path / "here") == contents(shared)


def file_bytes(root, shard_id):
    """Of its tar and manifest."""
    return sum((root / f"{shard_id}.{ending}").stat().st_size for ending in ("tar", "parquet"))


@pytest.mark.filterwarnings("ignore")  # botocore's own
def test_doubled_slashes_name_the_same_place(shared, place, tmp_path):
    assert connect("s3://lab//y/").root == connect("s3://lab/y").root == "lab/y"
    assert connect(f"file://{tmp_path}//y").root == f"{tmp_path}/y"
    doubled = place.url.replace("push-bucket", "/push-bucket//")
    assert push(shared, doubled).card_copied
    assert f"{place.root}/{PGD}.tar" in place.filesystem.find(place.root)
    assert pull(doubled, tmp_path / "here").card_copied
