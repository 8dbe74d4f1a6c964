"""Two collections to merge: one whole, one that lacks shards."""

import shutil

import pytest

from impure.manifests.collection.collection import Collection


@pytest.fixture
def other(collection_root, tmp_path):
    return Collection(shutil.copytree(collection_root, tmp_path / "other"))


@pytest.fixture
def into(collection_root, tmp_path):
    """The clean and FGSM shards of the training images, and nothing of the rest."""
    root = shutil.copytree(collection_root, tmp_path / "into")
    shutil.rmtree(root / "small" / "pgd")
    for split in ("validation", "test"):
        (root / "plans" / f"small-{split}.parquet").unlink()
        for attack in ("clean", "fgsm"):
            shutil.rmtree(root / "small" / attack / split)
    Collection(root).write_about({"software": {"torch": "ours"}})
    return Collection(root)
