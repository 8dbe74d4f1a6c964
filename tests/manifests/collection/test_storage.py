"""Profiles and encodings: every pair comes back bit for bit, or the reader says what is missing."""

import io
import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from impure.manifests.base.errors import InputError, ReadBackError
from impure.manifests.base.images import ENCODINGS, decode_stored
from impure.manifests.checks.verify import verify
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.samples import Sample, index_shard, read_shard, read_stored
from impure.manifests.collection.shard_id import ShardId
from impure.manifests.collection.storage import Storage
from impure.manifests.collection.storage_profiles import ENCODING_NAMES, PROFILES
from impure.manifests.collection.stored_pairs import read_pairs
from impure.manifests.views.preview import contact_sheet
from impure.purifier.data.dataset import PairDataset
from impure.purifier.data.pairs import list_pairs
from tests.manifests.stored import pairs, write_collection, write_shard, write_tar

WHOLE = [Storage(encoding=e, profile=p) for e in ENCODINGS for p in ("pairs", "clean-once")]
ALL = [*WHOLE, *(Storage(encoding=encoding, profile="delta") for encoding in ENCODINGS)]


def problems(collection):
    return [found.problem for found in verify(collection, "decode")]


@pytest.mark.parametrize("encoding", ENCODINGS)
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_every_image_comes_back_bit_for_bit(encoding, data):
    shape = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3)))
    pixels = data.draw(arrays(np.uint8, shape))
    encoded = Storage(encoding=encoding).encode(pixels)
    assert encoded == Storage(encoding=encoding).encode(pixels.copy())
    assert np.array_equal(decode_stored(encoded, "here", encoding), pixels)


def test_what_a_strange_encoder_makes_is_refused_unless_it_is_plain_lossless_rgb():
    image = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
    for kind, options in (
        ("WEBP", {}),
        ("WEBP", {"lossless": True, "save_all": True, "append_images": [Image.new("RGB", (8, 8), "red")]}),
    ):
        out = io.BytesIO()
        image.save(out, kind, **options)
        with pytest.raises(InputError, match="here"):
            decode_stored(out.getvalue(), "here", "webp")
    for encoding in ENCODINGS:
        out = io.BytesIO()
        Image.new("RGBA", (8, 8), (9, 9, 9, 128)).save(out, encoding, lossless=True, exact=True)
        with pytest.raises(InputError, match="here"):
            decode_stored(out.getvalue(), "here", encoding)


@pytest.mark.parametrize("storage", WHOLE, ids=str)
def test_readers_get_whole_pairs_out_of_every_profile(tmp_path, storage):
    collection = write_collection(tmp_path, storage)
    for shard in collection.committed:
        assert shard.storage == storage
        for sample, (wanted, _) in zip(read_pairs(shard), pairs(shard.shard_id.attack), strict=True):
            assert (sample.key, sample.label, sample.meta) == (wanted.key, wanted.label, wanted.meta)
            assert np.array_equal(sample.clean, wanted.clean)
            assert np.array_equal(sample.adversarial, wanted.adversarial)
    assert problems(collection) == []
    assert contact_sheet(collection.committed, 2).width > 100
    dataset = PairDataset(collection.committed)
    assert len(dataset) == 8
    adversarial, clean = dataset[0].numpy()
    assert np.array_equal(adversarial.transpose(1, 2, 0), pairs("pgd")[0][0].adversarial)
    assert np.array_equal(clean.transpose(1, 2, 0), pairs("pgd")[0][0].clean)


@pytest.mark.parametrize("storage", ALL, ids=str)
def test_members_are_those_of_the_profile_and_are_read_as_they_were_stored(tmp_path, storage):
    made = [sample for sample, _ in pairs("pgd")]
    names = [name.partition(".")[2] for name, _ in storage.members(made[0], "pgd")]
    images = [f"{image}.{storage.encoding}" for image in PROFILES[storage.profile][0]]
    assert names == [*images, "cls", "json"]
    path = write_tar(tmp_path / "x.tar", [m for sample in made for m in storage.members(sample, "pgd")])
    for index, sample in zip(index_shard(path), made, strict=True):
        stored, wanted = read_stored(index), storage.stored(sample, "pgd")
        assert (stored.key, stored.label, stored.meta) == (wanted.key, wanted.label, wanted.meta)
        assert stored.images.keys() == wanted.images.keys()
        assert all(np.array_equal(stored.images[name], wanted.images[name]) for name in wanted.images)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    "spoil", [lambda encode, pixels: encode(pixels)[:-40], lambda encode, pixels: encode(pixels ^ 1)]
)
def test_an_image_that_decodes_to_something_else_is_not_stored(encoding, spoil, monkeypatch):
    """A bit that flips while an image is encoded is found at once."""
    good = ENCODINGS[encoding]
    monkeypatch.setitem(ENCODINGS, encoding, replace(good, encode=partial(spoil, good.encode)))
    sample, _ = pairs("pgd")[0]
    with pytest.raises(ReadBackError, match="just encoded"):
        Storage(encoding=encoding).members(sample, "pgd")


def test_a_clean_image_that_is_encoded_already_is_not_encoded_again():
    sample, _ = pairs("pgd")[0]
    assert dict(Storage().members(sample, "pgd", b"once"))[f"{sample.key}.clean.png"] == b"once"
    assert not any(
        b"once" == data for _, data in Storage(profile="clean-once").members(sample, "pgd", b"once")
    )


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_perturbations_hold_no_image_and_cannot_be_read_as_pairs(tmp_path, encoding):
    collection = write_collection(tmp_path, Storage(encoding=encoding, profile="delta"))
    assert problems(collection) == []
    clean = collection.committed[0]
    (flat,) = {tuple(np.unique(decode_stored(data, "x", encoding))) for data in deltas(clean.tar)}
    assert flat == (128,)
    for read in (
        list_pairs,
        lambda shards: contact_sheet(shards, 1),
        lambda shards: list(read_pairs(shards[0])),
    ):
        with pytest.raises(InputError, match=f"impure-data rebuild {tmp_path} --images IMAGENET"):
            read(collection.committed)
    with pytest.raises(InputError, match="impure-data rebuild"):
        list(read_shard(clean.tar))


def deltas(tar):
    data = tar.read_bytes()
    members = [sample.members["delta"] for sample in index_shard(tar)]
    return [data[member.offset : member.offset + member.size] for member in members]


def test_a_perturbation_that_is_not_the_manifests_is_found(tmp_path):
    storage = Storage(profile="delta")
    collection = write_collection(tmp_path, storage)
    shard_id, made = ShardId("toy", "pgd", "test", 0), pairs("pgd")
    other = [
        (Sample(s.key, s.clean, np.minimum(s.adversarial, 200), s.label, s.meta), row) for s, row in made
    ]
    write_shard(collection, shard_id, other, collection.read(shard_id).marker["config"], storage)
    assert "l2" in problems(collection)[0]


def test_a_change_too_large_for_a_perturbation_is_refused():
    clean = np.zeros((4, 4, 3), np.uint8)
    for change, fits in ((127, True), (128, False)):
        sample = Sample("k", clean, clean + np.uint8(change), 0, {})
        if fits:
            Storage(profile="delta").members(sample, "pgd")
            continue
        with pytest.raises(InputError, match=r"'k'.*128/255.*clean-once"):
            Storage(profile="delta").members(sample, "pgd")


def test_a_missing_or_incomplete_clean_shard_is_named_with_the_command_that_makes_it(tmp_path):
    collection = write_collection(tmp_path, Storage(profile="clean-once"))
    clean, attacked = collection.committed
    other = collection.read(clean.shard_id).marker["config"]
    write_shard(collection, clean.shard_id, pairs("clean")[1:], other, Storage(profile="clean-once"))
    with pytest.raises(InputError, match=r"clean image of sample .* is not in .*clean/test/000000.tar"):
        list_pairs([attacked])
    collection.marker_path(clean.shard_id).unlink()
    message = (
        r"pgd/test/000000.tar: .*toy/clean/test/000000.tar; .*`impure-data generate --attack clean --out"
    )
    with pytest.raises(InputError, match=message):
        list_pairs([attacked])
    assert any("generate --attack clean" in problem for problem in problems(collection))


def test_a_clean_image_of_another_photograph_is_found(tmp_path):
    storage = Storage(profile="clean-once")
    collection = write_collection(tmp_path, storage)
    clean, attacked = collection.committed
    swapped = [
        (Sample(s.key, o.clean, o.clean, s.label, s.meta), row)
        for (s, row), (o, _) in zip(pairs("clean"), reversed(pairs("clean")), strict=True)
    ]
    write_shard(collection, clean.shard_id, swapped, clean.marker["config"], storage)
    assert all("clean_px_sha256" in problem for problem in problems(collection))
    with pytest.raises(InputError, match="pixels differ"):
        PairDataset([attacked])[0]


def test_a_shard_that_is_stored_otherwise_than_its_marker_says_is_found(tmp_path):
    collection = write_collection(tmp_path, Storage())
    shard_id = ShardId("toy", "pgd", "test", 0)
    write_shard(
        collection,
        shard_id,
        pairs("pgd"),
        collection.read(shard_id).marker["config"],
        Storage(profile="delta"),
    )
    assert "profile 'pairs'" in problems(collection)[0]


@pytest.mark.parametrize(
    "said",
    [
        3,
        "pairs",
        {"profile": "pairs"},
        {"profile": "pairs", "encoding": "jpeg"},
        {"profile": ["pairs"], "encoding": "png"},
        {"profile": "pairs", "encoding": "png", "odd": "x"},
        {"profile": "", "encoding": "png"},
    ],
)
def test_an_impossible_storage_is_refused(tmp_path, said):
    collection = write_collection(tmp_path, Storage())
    path = collection.marker_path(ShardId("toy", "pgd", "test", 0))
    marker = json.loads(path.read_text())
    marker["config"]["storage"] = said
    path.write_text(json.dumps(marker))
    with pytest.raises(InputError, match="toy/pgd/test/000000"):
        assert Collection(tmp_path).committed


def test_the_names_of_encodings_are_those_that_can_be_read_and_written():
    assert tuple(ENCODINGS) == ENCODING_NAMES


def test_a_key_that_leaves_no_room_for_its_ending_is_refused():
    sample = Sample("k" * 90, np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint8), 0, {})
    assert Storage().members(sample, "pgd")
    with pytest.raises(InputError, match="100 bytes"):
        Storage(encoding="webp").members(sample, "pgd")
