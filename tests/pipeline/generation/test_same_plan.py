"""Copies of one set of photographs, some of them undecodable, give one plan without a machine's paths."""

import re
import shutil
import tarfile

import pytest

from impure.manifests.collection.collection import Collection
from impure.manifests.collection.schema import UNREADABLE
from impure.pipeline.generation.sample_config import SampleConfig
from impure.pipeline.generation.sampling import sample
from impure.pipeline.sources.open_source import open_source
from impure.pipeline.targets.load import load_target

PER_CLASS = 5


@pytest.fixture
def copies(imagenet, tmp_path):
    """Two copies of a folder, under other paths and names; half of a class is undecodable."""
    first = tmp_path / "mine" / "pictures"
    shutil.copytree(imagenet / "train", first / "train")
    paths = sorted((first / "train" / "n01440764").iterdir())[:6]
    whole = paths[0].read_bytes()
    for path, data in zip(paths[:5], (b"", b"no picture", whole[:100], whole[:-900], b"GIF89a"), strict=True):
        path.write_bytes(data)
    paths[5].unlink()
    paths[5].symlink_to("gone.png")
    second = tmp_path / "home" / "somebody" / "copy"
    shutil.copytree(first, second, symlinks=True)
    return first, second


def packed(images, root):
    """The photographs that are there as a WebDataset tar below `root`."""
    root.mkdir(parents=True)
    with tarfile.open(root / "train.tar", "w") as tar:
        for path in sorted(images.glob("train/*/*.png")):
            if path.exists():
                label = path.with_suffix(".cls")
                label.write_text(path.parent.name)
                tar.add(path, path.name)
                tar.add(label, label.name)
    return root / "train.tar"


def drawn(root, images, card):
    config = SampleConfig(split="train", per_class=PER_CLASS)
    return sample(Collection(root), open_source(str(images)), load_target(str(card)), config)[0]


@pytest.mark.parametrize("as_tars", [False, True], ids=["folder", "tars"])
def test_two_copies_give_one_digest_and_no_path_or_address(copies, card, tmp_path, as_tars):
    if as_tars:
        copies = [packed(images, tmp_path / f"tars-{place}") for place, images in enumerate(copies)]
    first, second = (drawn(tmp_path / f"out-{place}", images, card) for place, images in enumerate(copies))
    assert first.digest == second.digest and first.table.equals(second.table)
    bad = [row for row in first.table.to_pylist() if row["status"] == UNREADABLE]
    assert len(bad) >= 3
    for row in bad:
        reason = row["error"].removeprefix(f"{row['source_id']}: ")
        assert re.fullmatch(r"cannot be (decoded|read) \([A-Za-z ]+\)", reason), row["error"]


def test_their_collections_merge_and_are_pulled_beside_each_other(copies, card, tmp_path, run):
    roots = [tmp_path / "a", tmp_path / "b"]
    for root, images, attack in zip(roots, copies, ("clean", "fgsm"), strict=True):
        made = run(
            "data", "generate", "--images", images, "--target", card, "--attack", attack, "--split", "train",
            "--per-class", PER_CLASS, "--threads", 1, "--out", root,
        )  # fmt: skip
        assert made.exit_code == 0, made.output
    beside = shutil.copytree(roots[0], tmp_path / "beside")
    assert run("data", "pull", roots[1], beside).exit_code == 0
    merged = run("data", "merge", *roots)
    assert merged.exit_code == 0, merged.output
    for root in (roots[0], beside):
        assert {shard.shard_id.attack for shard in Collection(root).committed} == {"clean", "fgsm"}
    assert run("data", "verify", roots[0], "--level", "decode").exit_code == 0
