"""The command of a small run, and what is wrong with what it leaves behind when it is disturbed."""

from impure.manifests.checks.verify import verify
from impure.manifests.collection.collection import Collection

RUN = "import sys; from impure.cli import data; data(sys.argv[1:])"


def arguments(imagenet, card, root, *more):
    return (
        "generate", "--images", imagenet, "--target", card, "--attack", "fgsm,pgd", "--split", "train",
        "--per-class", 4, "--shard-size", 3, "--batch-size", 3, "--threads", 1, "--out", root, *more,
    )  # fmt: skip


def half_made(root):
    """What is wrong with what readers see; that shards are still missing is not."""
    found = verify(Collection(root), "decode") if (root / "collection.json").exists() else []
    return [each for each in found if "not committed" not in each.problem]
