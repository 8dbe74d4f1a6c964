"""A valid tiny collection, written directly: tar, manifest, marker."""

import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

from impure.manifests.base.files import write_json
from impure.manifests.base.images import Pixels, encode_png, px_sha256
from impure.manifests.base.parquet import write_table
from impure.manifests.collection.collection import Collection, CommittedShard
from impure.manifests.collection.schema import MANIFEST
from impure.manifests.collection.shard_id import ShardId
from impure.purifier.riae.model import RIAE
from impure.purifier.riae.riae_config import RIAEConfig

SMALL = {
    "patch": 4,
    "grid": 6,
    "encoder_dim": 16,
    "encoder_depth": 3,
    "encoder_heads": 2,
    "decoder_dim": 8,
    "decoder_depth": 2,
    "decoder_heads": 2,
    "fusion": (0,),
}


def small_riae(mask: str = "both") -> RIAE:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return RIAE(RIAEConfig(mask=mask, **SMALL))


def clean_image(index: int, size: tuple[int, int]) -> Pixels:
    """Brightness tells the class: index 0 dark, 1 bright, 2 dark …"""
    noise = np.random.default_rng(index).integers(0, 40, (*size, 3))
    return (noise + 40 + 140 * (index % 2)).astype(np.uint8)


def write_shard(
    root: Path, shard_id: ShardId, samples: Sequence[tuple[str, Pixels, Pixels, int]], failed: int = 0
) -> CommittedShard:
    """samples: (key, clean, adversarial, label); `failed` rows without a sample follow."""
    collection = Collection(root)
    stem = collection.stem(shard_id)
    stem.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(stem.with_suffix(".tar"), "w", format=tarfile.USTAR_FORMAT) as tar:
        for key, clean, adversarial, label in samples:
            members = {"clean.png": encode_png(clean), "adv.png": encode_png(adversarial)}
            members |= {"cls": str(label).encode(), "json": json.dumps({"key": key}).encode()}
            for extension, data in members.items():
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    rows = [
        {
            "key": key,
            "label": label,
            "height": clean.shape[0],
            "width": clean.shape[1],
            "clean_px_sha256": px_sha256(clean),
            "adv_px_sha256": px_sha256(adversarial),
            "status": "ok",
        }
        for key, clean, adversarial, label in samples
    ]
    rows += [{"key": f"failed{index}", "status": "attack-failed"} for index in range(failed)]
    names = MANIFEST.names
    table = pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows], schema=MANIFEST)
    write_table(stem.with_suffix(".parquet"), table, {"test": True})
    file = {"bytes": 0, "sha256": ""}  # readers of samples trust the manifest, not these
    counts = dict.fromkeys(("planned", "stored", "failed", "succeeded"), len(samples))
    storage = {"encoding": "png", "profile": "pairs"}
    config = {"target": {"weights": "", "wnids": [], "num_classes": 2}, "storage": storage}
    marker = {"shard_id": str(shard_id), "config": config, "config_digest": "", "counts": counts}
    write_json(collection.marker_path(shard_id), {**marker, "tar": file, "manifest": file})
    return CommittedShard(shard_id, stem, {})


def write_collection(
    root: Path,
    *,
    attacks: Sequence[str] = ("fgsm", "pgd"),
    count: int = 6,
    sizes: Sequence[tuple[int, int]] = ((16, 16),),
    key: str = "image{index}",
) -> list[CommittedShard]:
    """Attacks that invert the image: a target that looks at brightness is always wrong."""
    for attack in attacks:
        samples = []
        for index in range(count):
            clean = clean_image(index, sizes[index % len(sizes)])
            adversarial = clean if attack == "clean" else 255 - clean
            samples.append((f"{attack}-{key.format(index=index)}", clean, adversarial, index % 2))
        write_shard(root, ShardId("toy", attack, "train", 0), samples, failed=1)
    return Collection(root).committed


class Brightness(nn.Module):
    """Two classes: dark and bright."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean((1, 2, 3))
        return torch.stack([0.5 - mean, mean - 0.5], dim=1)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Networks this small only lose time to threads; the fixture of all rooms sets the count back."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[CommittedShard]:
    return write_collection(tmp_path_factory.mktemp("collection"))


@pytest.fixture
def riae() -> Callable[[str], RIAE]:
    return small_riae
