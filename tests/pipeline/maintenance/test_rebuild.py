"""Perturbations and the receiver's own photographs become the pairs they were, or the report says why not."""

import shutil
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from impure.manifests.base.errors import InputError
from impure.manifests.base.files import read_json, write_json
from impure.manifests.checks.verify import verify
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.samples import read_shard
from impure.manifests.collection.shard_id import ShardId
from impure.manifests.collection.storage import Storage
from impure.pipeline.maintenance.rebuild import rebuild
from impure.pipeline.sources.builtin_source import BuiltinSource
from impure.pipeline.sources.folder import FolderSource
from tests.manifests.stored import SIDE, pairs, photographs, write_collection, write_shard


@pytest.fixture
def delta(tmp_path):
    return write_collection(tmp_path / "delta", Storage(profile="delta"), attacks=("clean", "fgsm", "pgd"))


PNG_PAIRS = Storage()


def rebuilt(delta, source, root, storage=PNG_PAIRS):
    """Results of a rebuild whose writer is the simplest there is."""
    out = Collection(root)

    def write(shard_id, made, config):
        write_shard(
            out, shard_id, [(s, r if s else {**r, "index_in_shard": None}) for s, r in made], config, storage
        )

    return list(rebuild(delta, source, out, storage, write))


@pytest.mark.parametrize("storage", [Storage(), Storage(encoding="webp", profile="clean-once")], ids=str)
def test_the_pairs_come_back_byte_for_byte(delta, tmp_path, storage):
    results = rebuilt(delta, BuiltinSource(), tmp_path / "out", storage)
    assert [(each.stored, each.lost, each.resumed) for each in results] == [(4, {}, False)] * 3
    original = write_collection(tmp_path / "pairs", storage, attacks=("clean", "fgsm", "pgd"))
    for here, there in zip(Collection(tmp_path / "out").committed, original.committed, strict=True):
        assert here.tar.read_bytes() == there.tar.read_bytes()
        assert here.marker["config"] == there.marker["config"]
    assert verify(Collection(tmp_path / "out"), "decode") == []
    again = rebuilt(delta, BuiltinSource(), tmp_path / "out", storage)
    assert [(each.stored, each.resumed) for each in again] == [(4, True)] * 3


def test_photographs_are_found_by_file_name_and_lost_ones_are_reported(delta, tmp_path):
    """The receiver's folders are arranged otherwise, one photograph is missing, one is another."""
    images = photographs(4)
    for place, image in enumerate(images):
        picture = BuiltinSource().load(image, SIDE).picture
        picture = Image.fromarray(255 - np.asarray(picture)) if place == 2 else picture
        path = tmp_path / "mine" / "val" / f"n0000000{place}" / f"{image.source_id.rpartition('/')[2]}.png"
        path.parent.mkdir(parents=True)
        picture.save(path)
    renamed(delta)
    (tmp_path / "mine" / "val" / "n00000001" / f"{images[1].source_id.rpartition('/')[2]}.png").write_bytes(
        b"no"
    )
    shutil.rmtree(tmp_path / "mine" / "val" / "n00000003")
    results = rebuilt(delta, FolderSource(tmp_path / "mine"), tmp_path / "out")
    for each in results:
        assert each.stored == 1
        reasons = [each.lost[f"{image.source_id}.png"] for image in images[1:]]
        for reason, word in zip(reasons, ("cannot be decoded", "other pixels", "not among"), strict=True):
            assert word in reason
    for shard in Collection(tmp_path / "out").committed:
        assert [sample.key for sample in read_shard(shard.tar)] == [pairs(shard.shard_id.attack)[0][0].key]
        status = [row["status"] for row in shard.rows()[0].to_pylist()]
        assert status == ["ok", "failed", "changed", "failed"]


def renamed(delta):
    """Give the photographs in the manifests an ending, as real ones have."""
    for shard in delta.committed:
        made = [
            (s, {**row, "source_id": f"{row['source_id']}.png"}) for s, row in pairs(shard.shard_id.attack)
        ]
        write_shard(delta, shard.shard_id, made, shard.marker["config"], Storage(profile="delta"))


@dataclass(frozen=True)
class Inverted(BuiltinSource):
    """Every photograph is another."""

    def load(self, image, size):
        photo = super().load(image, size)
        return type(photo)(Image.eval(photo.picture, lambda value: 255 - value), photo.sha256)


def test_nothing_is_written_of_a_shard_without_a_single_pair(delta, tmp_path):
    for source, word in ((Inverted(), "other pixels"), (FolderSource(tmp_path / "void"), "no such folder")):
        results = rebuilt(delta, source, tmp_path / "out")
        assert [each.stored for each in results] == [0, 0, 0]
        assert all(word in reason for each in results for reason in each.lost.values())
        assert all(len(each.lost) == 4 for each in results)
        assert Collection(tmp_path / "out").committed == []


def test_a_perturbation_of_something_else_is_not_added(delta, tmp_path):
    shard_id = ShardId("toy", "pgd", "test", 0)
    other = [(type(s)(s.key, s.clean, s.clean ^ 1, s.label, s.meta), row) for s, row in pairs("pgd")]
    write_shard(delta, shard_id, other, delta.read(shard_id).marker["config"], Storage(profile="delta"))
    result = next(
        each for each in rebuilt(delta, BuiltinSource(), tmp_path / "out") if each.shard_id == shard_id
    )
    assert result.stored == 0
    assert all("fetch it again" in reason for reason in result.lost.values())


def test_a_shard_of_other_samples_than_its_manifest_is_refused(delta, tmp_path):
    shard_id = delta.committed[0]
    shutil.copy(delta.committed[1].tar, shard_id.tar)
    with pytest.raises(InputError, match=r"clean/test/000000.tar.*fetch it again"):
        rebuilt(delta, BuiltinSource(), tmp_path / "out")


def test_what_cannot_be_rebuilt_is_refused(delta, tmp_path):
    with pytest.raises(InputError, match="another folder"):
        rebuilt(delta, BuiltinSource(), delta.root)
    with pytest.raises(InputError, match="no perturbations"):
        rebuilt(write_collection(tmp_path / "pairs", Storage()), BuiltinSource(), tmp_path / "out")
    write_json(tmp_path / "out" / "collection.json", {"another": "collection"})
    with pytest.raises(InputError, match="of another collection"):
        rebuilt(delta, BuiltinSource(), tmp_path / "out")


@pytest.mark.parametrize(
    "change", [{"resize": -1}, {"odd": 1}, {"wnids": [["a"], "b"]}, {"mean": ["a", 1, 2]}]
)
def test_a_marker_whose_target_cannot_be_is_refused(delta, tmp_path, change):
    for shard in delta.committed:
        path = delta.marker_path(shard.shard_id)
        marker = read_json(path)
        marker["config"]["target"] |= change
        write_json(path, marker)
    with pytest.raises(InputError, match="target"):
        rebuilt(Collection(delta.root), BuiltinSource(), tmp_path / "out")
