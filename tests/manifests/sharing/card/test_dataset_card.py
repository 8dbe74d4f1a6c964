import json
import shutil

import pytest
import yaml

from impure.manifests.base.canonical_json import digest
from impure.manifests.base.errors import InputError
from impure.manifests.base.files import read_json, sha256_file, write_json
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.layout import is_own
from impure.manifests.sharing.card.card_files import load_configs
from impure.manifests.sharing.card.dataset_card import readme, write_card


@pytest.fixture
def root(collection_root, tmp_path):
    return shutil.copytree(collection_root, tmp_path / "copy")


def store_as(root, profile, attacks, encoding="png"):
    """Make the markers say that shards are stored in another way."""
    for shard_id in Collection(root).marked():
        path = Collection(root).marker_path(shard_id)
        marker = read_json(path)
        if shard_id.attack in attacks:
            marker["config"]["storage"] = {"profile": profile, "encoding": encoding}
            write_json(path, marker | {"config_digest": digest(marker["config"])})


def listed(root):
    lines = (root / "SHA256SUMS").read_text().splitlines()
    return dict(reversed(line.split("  ", 1)) for line in lines)


def front_matter(text):
    return yaml.safe_load(text.split("---\n")[1])


def test_written_twice_the_same_bytes(root):
    first = {path: path.read_bytes() for path in write_card(Collection(root))}
    assert {path: path.read_bytes() for path in write_card(Collection(root))} == first
    assert [path.name for path in first] == [
        "preview.png", "README.md", "croissant.json", "train-index.json", "validation-index.json",
        "test-index.json", "SHA256SUMS",
    ]  # fmt: skip


def test_sums_list_every_file_of_the_share_and_nothing_else(root):
    (root / "notes.txt").write_text("mine")
    write_card(Collection(root))
    files = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    assert set(listed(root)) == {name for name in files if is_own(name)} - {"SHA256SUMS"}
    assert all(sha256_file(root / name) == sha256 for name, sha256 in listed(root).items())


def test_a_shard_without_marker_does_not_go_in(root):
    gone = Collection(root).committed[0].shard_id
    Collection(root).marker_path(gone).unlink()
    write_card(Collection(root))
    assert not any(name.startswith(str(gone)) for name in listed(root))
    for name in ("README.md", "croissant.json"):
        text = (root / name).read_text()
        assert str(gone).replace(f"{gone.number:06d}", "*") not in text
        assert str(gone) not in text
    shards = json.loads((root / f"{gone.split}-index.json").read_text())["shardlist"]
    assert f"{gone}.tar" not in [shard["url"] for shard in shards]


def test_the_card_says_what_was_done(root):
    write_card(Collection(root))
    text = (root / "README.md").read_text()
    weights = Collection(root).committed[0].marker["config"]["target"]["weights"]
    for fact in (weights, '"alpha_255":4.0', "torchvision", "terms of access", "| small  |    pgd |"):
        assert fact in text
    meta = front_matter(text)
    assert (meta["license"], meta["size_categories"]) == ("other", ["n<1K"])
    assert [files["split"] for files in meta["configs"][0]["data_files"]] == ["train", "validation", "test"]


def test_profiles_are_configurations_of_their_own(root):
    store_as(root, "clean-once", ["clean", "pgd"])
    configs = load_configs(Collection(root).committed)
    assert list(configs) == ["pairs", "clean", "clean-once"]
    assert configs["clean-once"]["test"] == ["small/pgd/test/*.tar"]
    store_as(root, "pairs", ["pgd"], encoding="webp")
    assert list(load_configs(Collection(root).committed)) == ["pairs", "clean", "pairs-webp"]


def test_no_photographs_where_only_perturbations_are_shared(root):
    (root / "preview.png").write_bytes(b"an old one")
    store_as(root, "delta", ["clean", "pgd", "fgsm"])
    write_card(Collection(root))
    assert "preview.png" not in listed(root)
    text = (root / "README.md").read_text()
    assert "preview.png" not in text
    assert "no photographs" in text


def test_what_a_stranger_wrote_stays_in_its_cell(root):
    path = Collection(root).marker_path(Collection(root).marked()[0])
    marker = read_json(path)
    marker["config"]["target"]["architecture"] = "x | <script>\n# y"
    write_json(path, marker)
    assert "x \\| &lt;script> # y" in readme(Collection(root).committed, {})


def test_damage_is_not_shared(root):
    with pytest.raises(InputError, match="no committed shard"):
        write_card(Collection(root / "plans"))
    tar = Collection(root).committed[-1].tar
    tar.write_bytes(tar.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match=r"000000\.tar: not what its marker says|impure-data verify"):
        write_card(Collection(root))
