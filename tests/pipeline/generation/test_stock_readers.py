"""Shards are plain WebDataset: stock libraries read the same pixels as the manifests say."""

import gc
import hashlib
import json
import tarfile

import numpy as np
import pytest

from impure.manifests.collection.shard_filter import select_shards
from impure.manifests.collection.shard_id import sample_key
from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.attack_registry import ATTACKS
from impure.pipeline.attacks.engine.target_class import TARGET_CLASSES
from impure.pipeline.generation.attack_batches import SAMPLE_FIELDS


def px(image):
    return hashlib.sha256(np.asarray(image).tobytes()).hexdigest()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_stock_webdataset_reads_the_same_pixels_as_the_manifest(collection_root):
    import webdataset

    for shard in select_shards(str(collection_root)):
        rows = {row["key"]: row for row in shard.rows()[0].to_pylist()}
        samples = list(webdataset.WebDataset(str(shard.tar), shardshuffle=False).decode("pil"))
        assert [sample["__key__"] for sample in samples] == list(rows)
        for sample in samples:
            row = rows[sample["__key__"]]
            assert px(sample["clean.png"]) == row["clean_px_sha256"]
            assert px(sample["adv.png"]) == row["adv_px_sha256"]
            assert sample["cls"] == row["label"]
            assert sample["json"]["success"] == row["success"]
    gc.collect()  # what the library leaves open must not warn inside another test


@pytest.mark.filterwarnings("ignore")
def test_stock_huggingface_datasets_reads_the_same_pixels_as_the_manifest(collection_root, tmp_path):
    import datasets

    for shard in select_shards(str(collection_root), attacks=["pgd"]):
        rows = {row["key"]: row for row in shard.rows()[0].to_pylist()}
        loaded = datasets.load_dataset(
            "webdataset", data_files={"train": str(shard.tar)}, split="train", cache_dir=str(tmp_path)
        )
        assert len(loaded) == len(rows)
        for sample in loaded:
            row = rows[sample["__key__"]]
            assert px(sample["clean.png"]) == row["clean_px_sha256"]
            assert px(sample["adv.png"]) == row["adv_px_sha256"]
    gc.collect()


def test_members_are_adjacent_and_anonymous(collection_root):
    for shard in select_shards(str(collection_root)):
        with tarfile.open(shard.tar) as tar:
            members = tar.getmembers()
            metas = [
                json.load(tar.extractfile(member)) for member in members if member.name.endswith(".json")
            ]
        keys = [member.name.partition(".")[0] for member in members]
        assert keys == [meta["key"] for meta in metas for _ in range(4)]
        assert {(member.mtime, member.uid, member.gid, member.uname) for member in members} == {(0, 0, 0, "")}
        assert all(set(meta) == set(SAMPLE_FIELDS) and None not in meta.values() for meta in metas)


def test_keys_are_short_dotless_and_unique():
    assert sample_key("resnet101", "pgd-e16", "val/n1/ILSVRC2012_val_00000001.JPEG") == (
        "resnet101__pgd-e16__ILSVRC2012_val_00000001"
    )
    strange = [
        sample_key("t" * 32, config.key, f"val/{name}")
        for name in ("ä.b.png", "ä_b.png", "x" * 200)
        for config in (
            *(AttackConfig(name=name, eps_255=255) for name in ATTACKS),
            *(
                AttackConfig(name="mdifgsm", eps_255=255, targeted=target_class)
                for target_class in TARGET_CLASSES
            ),
        )
    ]
    assert len(set(strange)) == 3 * (len(ATTACKS) + len(TARGET_CLASSES))
    for key in strange:
        assert key.isascii()
        assert "." not in key
        assert len(f"{key}.clean.webp") <= 100
