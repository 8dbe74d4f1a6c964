"""Shards, manifests and markers from strangers, before every reader of collections."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impure.manifests.base import parquet as store
from impure.manifests.base.errors import InputError
from impure.manifests.base.parquet import CONFIG_KEY, read_table
from impure.manifests.checks.status import status
from impure.manifests.checks.verify import verify
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.schema import MANIFEST
from impure.manifests.collection.shard_filter import select_shards
from impure.manifests.collection.shard_id import ShardId
from impure.manifests.collection.storage import Storage
from impure.manifests.collection.storage_profiles import PROFILES
from impure.manifests.collection.stored_pairs import index_stored_samples, read_pairs
from impure.manifests.views.preview import contact_sheet
from impure.purifier.data.dataset import PairDataset
from impure.purifier.data.pairs import list_pairs
from tests.manifests.hostile import SHARD, SHARDS
from tests.manifests.stored import vouch, write_collection


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch") / "x.tar"


@pytest.fixture(scope="module")
def collections(tmp_path_factory):
    """A collection of each profile."""
    root = tmp_path_factory.mktemp("collections")
    return {name: write_collection(root / name, Storage(profile=name)) for name in PROFILES}


@settings(max_examples=120, deadline=None)
@given(data=st.data(), profile=st.sampled_from(sorted(PROFILES)), attack=st.sampled_from(["clean", "pgd"]))
def test_no_reader_of_shards_does_anything_else_with_generated_shards(collections, data, profile, attack):
    collection, shard_id = collections[profile], ShardId("toy", attack, "test", 0)
    committed = collection.read(shard_id)
    original = committed.tar.read_bytes()
    mutated = bytearray(original)
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(original) - 1), st.integers(1, 255)), max_size=4)
    ):
        mutated[place] ^= value
    committed.tar.write_bytes(data.draw(st.one_of(st.just(bytes(mutated)), SHARDS)))
    config = committed.marker["config"]
    vouch(collection, shard_id, config, 4, 4)
    try:
        every_reader(collection)
    finally:
        committed.tar.write_bytes(original)
        vouch(collection, shard_id, config, 4, 4)


def every_reader(collection):
    """Run all that reads a collection; returns what they say."""
    collection = Collection(collection.root)
    said = [found.problem for found in verify(collection, "decode")]
    readers = (
        lambda: select_shards(str(collection.root)),
        lambda: status(collection),
        lambda: [index_stored_samples(shard) for shard in collection.committed],
        lambda: [list(read_pairs(shard)) for shard in collection.committed],
        lambda: list_pairs(collection.committed),
        lambda: [pair for pair in PairDataset(collection.committed)],
        lambda: contact_sheet(collection.committed, 2),
    )
    for read in readers:
        try:
            read()
        except InputError as error:
            said.append(str(error))
    return said


@pytest.fixture
def collection(tmp_path):
    return write_collection(tmp_path / "root", Storage())


def marker_with(**changes):
    def change(collection):
        path = collection.marker_path(SHARD)
        marker = json.loads(path.read_text())
        for dotted, value in changes.items():
            *parents, last = dotted.split("__")
            place = marker
            for parent in parents:
                place = place[parent]
            place[last] = value
        path.write_text(json.dumps(marker))

    return change


def marker_of(text):
    return lambda collection: collection.marker_path(SHARD).write_bytes(text)


MARKERS = {
    "NaN": marker_with(config__seed=float("nan")),
    "infinite": marker_of(b'{"config": {"seed": 1e999}}'),
    "list": marker_of(b"[1]"),
    "deep": marker_of(b'{"config":' * 5000 + b"1" + b"}" * 5000),
    "rather deep": marker_with(config__a=json.loads("[" * 40 + "]" * 40)),
    "no UTF-8": marker_of(b'{"shard": "\xff"}'),
    "huge number": marker_of(b'{"schema_version": ' + b"9" * 5000 + b"}"),
    "huge": marker_of(b"{" + b" " * (1 << 24) + b"}"),
    "empty": marker_of(b""),
    "negative count": marker_with(counts__stored=-4),
    "count that is no number": marker_with(counts__failed="0"),
    "fraction of a byte": marker_with(tar__bytes=1.5),
    "negative bytes": marker_with(manifest__bytes=-1),
    "a count of minus one": marker_with(counts__failed=-1),
    "a count that nobody has of minus one": marker_with(counts__odd=-1),
    "count that is a truth value": marker_with(counts__succeeded=True),
    "more bytes than there can be": marker_with(tar__bytes=1 << 54),
    "tar that is text": marker_with(tar="x"),
    "storage that is text": marker_with(config__storage="pairs"),
    "class names that are numbers": marker_with(config__target__wnids=[1, 2]),
    "counts that are a list": marker_with(counts=[4, 4, 0, 2]),
    "count that nobody has": marker_with(counts__odd="x"),
    "config that is text": marker_with(config="x"),
    "target without a name": marker_with(config__target={"weights": 3}),
    "shard that is a path": marker_with(shard_id="../../../etc/passwd"),
    "shard that is another's": marker_with(shard_id="toy/clean/test/000000"),
    "other digest": marker_with(config_digest="0" * 64),
    "impossible storage": marker_with(config__storage={"encoding": "pickle"}),
}


@pytest.mark.parametrize("name", MARKERS)
def test_hostile_markers_are_refused_or_found(collection, name):
    MARKERS[name](collection)
    assert [said for said in every_reader(collection) if "pgd/test/000000" in said or "marker" in said]


def table_with(**columns):
    """The manifest with other columns, whatever they hold."""

    def change(collection):
        path = collection.read(SHARD).manifest
        table = pq.read_table(path, partitioning=None)
        for name, values in columns.items():
            place = table.schema.get_field_index(name)
            array = (
                values if isinstance(values, pa.Array) else pa.array(values, table.schema.field(name).type)
            )
            table = table.set_column(place, name, array)
        pq.write_table(table, path)
        vouch(collection, SHARD, collection.read(SHARD).marker["config"], 4, 4)

    return change


def table_under(config):
    """The manifest with other metadata."""

    def change(collection):
        path = collection.read(SHARD).manifest
        table = pq.read_table(path, partitioning=None)
        pq.write_table(table.replace_schema_metadata(config), path)
        vouch(collection, SHARD, collection.read(SHARD).marker["config"], 4, 4)

    return change


def not_utf8(collection):
    path = collection.read(SHARD).manifest
    key = b"toy__pgd-e16"
    path_bytes = pq.read_table(path, partitioning=None)
    pq.write_table(path_bytes, path, compression="none", use_dictionary=False)
    path.write_bytes(path.read_bytes().replace(key, b"\xff\xfe" + key[2:]))
    vouch(collection, SHARD, collection.read(SHARD).marker["config"], 4, 4)


KEYS = [f"toy__pgd-e16__{index}" for index in range(4)]
MANIFESTS = {
    "no Parquet": lambda collection: collection.read(SHARD).manifest.write_bytes(b"PAR1" * 100),
    "empty": lambda collection: collection.read(SHARD).manifest.write_bytes(b""),
    "other type": table_with(label=pa.array(["0", "1", "0", "1"])),
    "text that is no UTF-8": not_utf8,
    "null keys": table_with(key=[None] * 4),
    "null labels": table_with(label=[None, 1, 0, 1]),
    "null verdicts": table_with(success=[None] * 4, pred_adv=[None] * 4),
    "null target classes": table_with(target_class=[None] * 4),
    "null sizes": table_with(width=[None] * 4),
    "NaN norms": table_with(l2=[float("nan")] * 4),
    "null norms": table_with(l2=[None] * 4, linf_255=[None] * 4),
    "keys that are paths": table_with(key=["../../etc/passwd"] * 4),
    "other keys": table_with(key=KEYS),
    "one key four times": table_with(key=[KEYS[0]] * 4),
    "negative sizes": table_with(width=[-1] * 4, height=[-1] * 4),
    "huge sizes": table_with(width=[2**31 - 1] * 4),
    "no sample at all": table_with(status=["failed"] * 4),
    "no config": table_under({}),
    "config that is no JSON": table_under({CONFIG_KEY: b"{"}),
    "config that is a list": table_under({CONFIG_KEY: b"[]"}),
    "config with NaN": table_under({CONFIG_KEY: b'{"a": NaN}'}),
    "deep config": table_under({CONFIG_KEY: b'{"a":' * 900 + b"1" + b"}" * 900}),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_hostile_manifests_are_refused_or_found(collection, name):
    MANIFESTS[name](collection)
    assert [said for said in every_reader(collection) if said]


def test_a_manifest_of_too_many_rows_is_refused_before_it_is_read(collection, monkeypatch):
    monkeypatch.setattr(store, "MAX_ROWS", 3)
    with pytest.raises(InputError, match="4 rows .* too many"):
        read_table(collection.read(SHARD).manifest, MANIFEST)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_manifests_are_read_or_refused(collections, scratch, data):
    original = bytearray(collections["pairs"].read(SHARD).manifest.read_bytes())
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(original) - 1), st.integers(1, 255)), min_size=1, max_size=5)
    ):
        original[place] ^= value
    scratch.write_bytes(original[: data.draw(st.integers(0, len(original)) | st.just(len(original)))])
    try:
        read_table(scratch, MANIFEST)[0].to_pylist()
    except InputError as error:
        assert "x.tar" in str(error)


def test_plans_that_are_none_are_named(collection):
    plan = collection.plan_path("toy", "test")
    table = pq.read_table(plan, partitioning=None)
    for config in (b"{}", b'{"target": 3, "source": "x"}', b'{"target": {"name": "toy"}, "source": ["x"]}'):
        pq.write_table(table.replace_schema_metadata({CONFIG_KEY: config}), plan)
        assert any("toy-test.parquet" in said for said in every_reader(collection))
