"""Others read what we write: through the card where there is one, without our code, and the same pixels."""

import gc
import hashlib
import re
import shutil
import subprocess

import numpy as np
import pytest

from impure.manifests.collection.collection import Collection
from impure.manifests.collection.shard_filter import select_shards
from impure.manifests.collection.shard_id import SPLITS
from impure.manifests.sharing.card.dataset_card import write_card

# Third parties' own warnings, and what they leave open, are not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def tidy():
    yield
    gc.collect()  # what the libraries leave open must not warn inside another test


@pytest.fixture(scope="module")
def root(collection_root, tmp_path_factory):
    """A collection with its card, below a path with a split's name in it."""
    root = shutil.copytree(collection_root, tmp_path_factory.mktemp("test-val") / "root")
    write_card(Collection(root))
    return root


@pytest.fixture(scope="module")
def rows(root):
    """Manifest rows of stored samples, by key."""
    found = [row for shard in select_shards(str(root)) for row in shard.rows()[0].to_pylist()]
    return {row["key"]: row for row in found if row["status"] == "ok"}


def px(image):
    return hashlib.sha256(np.asarray(image).tobytes()).hexdigest()


def same(sample, row):
    """Whether images of a sample, under WebDataset's names, are those of the manifest."""
    return (px(sample["clean.png"]), px(sample["adv.png"])) == (row["clean_px_sha256"], row["adv_px_sha256"])


def test_webdataset(root, rows):
    import webdataset

    tars = [str(shard.tar) for shard in select_shards(str(root))]
    samples = list(webdataset.WebDataset(tars, shardshuffle=False).decode("pil"))
    assert [sample["__key__"] for sample in samples] == list(rows)
    assert all(same(sample, rows[sample["__key__"]]) for sample in samples)
    assert all(sample["cls"] == rows[sample["__key__"]]["label"] for sample in samples)


def test_datasets_by_the_lines_of_the_card(root, rows, tmp_path, monkeypatch):
    import datasets

    lines = re.search(r"^import datasets.*?^$", (root / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    monkeypatch.chdir(root)
    values = {}
    exec(lines[0], values)
    pairs = values["pairs"]
    assert list(pairs) == list(SPLITS)
    found = {sample["__key__"]: split for split in pairs for sample in pairs[split]}
    assert found == {key: row["split"] for key, row in rows.items()}
    assert all(same(sample, rows[sample["__key__"]]) for split in pairs for sample in pairs[split])
    manifests = values["rows"]
    found = {row["key"]: row["split"] for split in manifests for row in manifests[split]}
    assert found == {key: row["split"] for key, row in rows.items()}
    assert all(row["split"] == split for split in manifests for row in manifests[split])


def test_duckdb_and_pandas(root, rows):
    import duckdb
    import pandas

    counted = duckdb.sql(
        f"SELECT attack, count(*), sum(success::int) FROM '{root}/*/*/*/*.parquet' GROUP BY ALL"
    )
    expected = {
        (attack, len(mine), sum(row["success"] for row in mine))
        for attack in ("clean", "fgsm", "pgd")
        for mine in [[row for row in rows.values() if row["attack"] == attack]]
    }
    assert set(counted.fetchall()) == expected
    frames = [pandas.read_parquet(shard.manifest) for shard in select_shards(str(root))]
    assert list(pandas.concat(frames)["adv_px_sha256"]) == [row["adv_px_sha256"] for row in rows.values()]


def test_tar_and_sha256sum(root, rows):
    listed = [
        name
        for shard in select_shards(str(root))
        for name in subprocess.check_output(["tar", "tf", shard.tar], text=True).splitlines()
    ]
    endings = ("clean.png", "adv.png", "cls", "json")
    assert listed == [f"{key}.{ending}" for key in rows for ending in endings]
    subprocess.run(["sha256sum", "-c", "--strict", "--quiet", "SHA256SUMS"], cwd=root, check=True)


def test_croissant(root, rows):
    import mlcroissant

    data = mlcroissant.Dataset(str(root / "croissant.json"))
    assert not data.metadata.ctx.issues.errors
    assert not data.metadata.ctx.issues.warnings
    records = list(data.records("manifests"))
    assert len(records) == len(rows)
    for record in records:
        row = rows[record["manifests/key"].decode()]
        assert record["manifests/adv_px_sha256"].decode() == row["adv_px_sha256"]
        assert record["manifests/success"] == row["success"]
        assert record["manifests/linf_255"] == row["linf_255"]


def test_wids(root, rows, tmp_path):
    wids = pytest.importorskip("wids", reason="of webdataset before 1.0; pip install wids")
    for split in SPLITS:
        index = f"{root}/{split}-index.json"
        data = wids.ShardListDataset(index, localname=lambda url: url, keep=True)
        keys = [key for key, row in rows.items() if row["split"] == split]
        assert [data[place]["__key__"] for place in range(len(data))] == keys
        last = data[len(data) - 1]
        assert px(last[".adv.png"]) == rows[keys[-1]]["adv_px_sha256"]
        data.close()
