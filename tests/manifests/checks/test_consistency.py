"""What `verify` finds in a collection whose parts are each in order, but do not belong together."""

import json
import os
import shutil

import pytest

from impure.manifests.base.canonical_json import digest
from impure.manifests.base.errors import InputError
from impure.manifests.base.files import read_json, sha256_file, write_json
from impure.manifests.base.parquet import read_table, write_table
from impure.manifests.checks.status import status
from impure.manifests.checks.verify import verify
from impure.manifests.collection import plan
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.schema import PLAN
from impure.manifests.collection.shard_filter import select_shards


def renamed(value, old, new):
    """JSON with a name exchanged wherever it stands."""
    return json.loads(json.dumps(value).replace(f'"{old}', f'"{new}'))


def with_column(table, name, value):
    rows = [row | {name: value} for row in table.to_pylist()]
    return type(table).from_pylist(rows, schema=table.schema)


def seal(stem, marker, config):
    """Write the marker of files that are there."""
    for name, ending in (("tar", ".tar"), ("manifest", ".parquet")):
        path = stem.with_suffix(ending)
        marker[name] = {"sha256": sha256_file(path), "bytes": path.stat().st_size}
    marker |= {"config": config, "config_digest": digest(config)}
    write_json(stem.with_suffix(".done.json"), marker)


def plan_digest(root, name):
    table, config = read_table(root / "plans" / f"{name}.parquet", PLAN)
    return plan.plan_digest(table, config)


def add_variant(root, attack, variant):
    """The shards of an attack once more, as a sweep stores them beside each other."""
    for each in [each for each in Collection(root).committed if each.shard_id.attack == attack]:
        stem = root / each.shard_id.target / variant / each.shard_id.split / each.stem.name
        stem.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(each.tar, stem.with_suffix(".tar"))
        table, config = each.rows()
        config = config | {"attack": config["attack"] | {"eps_255": 8}}
        write_table(stem.with_suffix(".parquet"), table, config)
        marker = each.marker | {"shard_id": str(stem.relative_to(root))}
        seal(stem, marker, config)


def add_target(root, new):
    """The plans and shards of the one target once more, under another name."""
    for path in sorted((root / "plans").glob("small-*.parquet")):
        table, config = read_table(path, PLAN)
        config = renamed(config, "small", new)
        write_table(
            path.with_name(path.name.replace("small", new)), with_column(table, "target", new), config
        )
    for each in Collection(root).committed:
        stem = root / new / each.shard_id.attack / each.shard_id.split / each.stem.name
        stem.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(each.tar, stem.with_suffix(".tar"))
        table, config = each.rows()
        config = renamed(config, "small", new) | {"plan": plan_digest(root, f"{new}-{each.shard_id.split}")}
        write_table(stem.with_suffix(".parquet"), with_column(table, "target", new), config)
        seal(stem, renamed(each.marker, "small", new), config)
    Collection(root).write_about({})


@pytest.fixture(scope="module")
def rich_root(collection_root, tmp_path_factory):
    """Two targets, three attacks, one of them swept; in order."""
    root = shutil.copytree(collection_root, tmp_path_factory.mktemp("rich") / "root")
    add_variant(root, "pgd", "pgd-e8")
    add_target(root, "other-1")
    return root


@pytest.fixture
def root(rich_root, tmp_path):
    return shutil.copytree(rich_root, tmp_path / "copy")


def findings(root, level="size"):
    return [(each.shard_id, each.problem) for each in verify(Collection(root), level)]


def shards_of(root, *, attack="pgd-e8", split="test", target="small"):
    found = [
        each
        for each in Collection(root).committed
        if (each.shard_id.target, each.shard_id.attack, each.shard_id.split) == (target, attack, split)
    ]
    assert len(found) > 1
    return found


def marker_of(committed):
    return committed.stem.with_suffix(".done.json")


@pytest.mark.parametrize("level", ["size", "hash"])
def test_targets_and_sweeps_side_by_side_are_in_order(root, level):
    assert findings(root, level) == []
    found = status(Collection(root))
    assert found["missing"] == []
    assert {(row["target"], row["attack"]) for row in found["groups"]} == {
        (target, attack) for target in ("small", "other-1") for attack in ("clean", "fgsm", "pgd", "pgd-e8")
    }
    assert {
        each.shard_id.attack for each in select_shards(str(root), attacks=["pgd"], targets=["other-1"])
    } == {"pgd"}


def test_a_plan_on_which_no_attack_was_begun_is_in_order(root):
    for attack in ("clean", "fgsm", "pgd", "pgd-e8"):
        shutil.rmtree(root / "small" / attack / "test")
    assert findings(root) == []


def test_a_shard_outside_its_plan_is_named(root):
    shard_id = shards_of(root)[-1]
    stem = shard_id.stem.with_name("000042")
    table, config = shard_id.rows()
    shutil.copy(shard_id.tar, stem.with_suffix(".tar"))
    write_table(stem.with_suffix(".parquet"), with_column(table, "shard", 42), config)
    seal(stem, shard_id.marker | {"shard_id": "small/pgd-e8/test/000042"}, config)
    ((place, problem),) = findings(root)
    assert place == "small/pgd-e8/test/000042"
    assert "outside its plan" in problem


def test_a_deleted_marker_is_named_with_what_is_left(root):
    shard_id = shards_of(root)[0]
    marker_of(shard_id).unlink()
    ((place, problem),) = findings(root)
    assert place == str(shard_id.shard_id)
    assert "without a marker" in problem


def test_files_that_were_never_planned_are_named(root):
    shard_id = shards_of(root)[0]
    shutil.copy(shard_id.tar, shard_id.stem.with_name("000042.tar"))
    ((place, problem),) = findings(root)
    assert place == "small/pgd-e8/test/000042"
    assert "without a marker" in problem


def swap(first, second):
    os.rename(first, first.with_suffix(".swap"))
    os.rename(second, first)
    os.rename(first.with_suffix(".swap"), second)


def vouched(committed):
    seal(committed.stem, dict(committed.marker), committed.marker["config"])


def equally_long(*shards):
    """Make the markers forget that two files differ in size."""
    for each in shards:
        marker = read_json(marker_of(each))
        marker["manifest"]["bytes"] = each.manifest.stat().st_size
        write_json(marker_of(each), marker)


@pytest.mark.parametrize("hide", [None, equally_long, lambda *shards: [vouched(each) for each in shards]])
@pytest.mark.parametrize("beside", ["another shard", "another attack", "another split", "another target"])
def test_swapped_manifests_are_named_at_every_level(root, beside, hide):
    first, second = shards_of(root)
    if beside != "another shard":
        place = {"attack": "pgd"} if beside == "another attack" else {}
        place |= {"split": "validation"} if beside == "another split" else {}
        place |= {"target": "other-1"} if beside == "another target" else {}
        second = shards_of(root, **place)[0]
    swap(first.manifest, second.manifest)
    if hide is not None:
        hide(first, second)
    for level in ("size", "hash"):
        found = findings(root, level)
        assert {place for place, _ in found} == {str(first.shard_id), str(second.shard_id)}
        assert all("000000.parquet" in problem or "000001.parquet" in problem for _, problem in found)


def test_swapped_shards_are_named(root):
    first, second = shards_of(root)
    for ending in (".tar", ".parquet", ".done.json"):
        swap(first.stem.with_suffix(ending), second.stem.with_suffix(ending))
    assert [place for place, _ in findings(root)] == [str(first.shard_id), str(second.shard_id)]


@pytest.mark.parametrize("change", ["rows", "config"])
def test_a_replaced_plan_is_named_for_every_shard_it_did_not_make(root, change):
    path = root / "plans" / "small-test.parquet"
    table, config = read_table(path, PLAN)
    if change == "rows":
        table = with_column(table, "source_sha256", "0" * 64)
    else:
        config = config | {"seed": 5}
    write_table(path, table, config)
    found = findings(root)
    made = [each for attack in ("clean", "fgsm", "pgd", "pgd-e8") for each in shards_of(root, attack=attack)]
    assert {place for place, _ in found} - {"collection.json"} == {str(each.shard_id) for each in made}
    assert all("another plan" in problem and "small-test" in problem for _, problem in found)
    assert ("collection.json" in dict(found)) == (change == "config")


def test_another_splits_plan_in_its_place_is_named(root):
    shutil.copy(root / "plans" / "small-train.parquet", root / "plans" / "small-test.parquet")
    ((place, problem),) = findings(root)
    assert place == "plans"
    assert "small-test" in problem


def test_a_deleted_plan_is_named(root):
    (root / "plans" / "small-test.parquet").unlink()
    found = findings(root)
    assert all("small-test" in problem and "missing" in problem for _, problem in found)
    assert len(found) == 4 * len(shards_of(root)) + 1
    assert "collection.json" in dict(found)


def test_a_deleted_plan_that_nothing_was_made_of_is_named(root):
    for attack in ("clean", "fgsm", "pgd", "pgd-e8"):
        shutil.rmtree(root / "small" / attack / "test")
    (root / "plans" / "small-test.parquet").unlink()
    ((place, problem),) = findings(root)
    assert place == "collection.json"
    assert "small-test" in problem


def test_one_name_for_two_networks_is_named(root):
    path = root / "plans" / "other-1-train.parquet"
    table, config = read_table(path, PLAN)
    write_table(path, table, config | {"target": config["target"] | {"weights": "0" * 64}})
    shutil.rmtree(root / "other-1")
    Collection(root).write_about({})
    assert [problem for _, problem in findings(root) if "weights" in problem]


def test_a_lost_collection_json_is_named(root):
    (root / "collection.json").unlink()
    assert [place for place, _ in findings(root)] == ["collection.json"]


@pytest.mark.parametrize("config", [{}, {"target": "small"}, {"target": {"name": 3}}])
def test_a_plan_without_a_target_is_named_and_hides_nothing(root, config):
    path = root / "plans" / "small-test.parquet"
    write_table(path, read_table(path, PLAN)[0], config)
    marker_of(shards_of(root, split="train")[0]).unlink()
    assert [place for place, _ in findings(root)] == ["plans", "small/pgd-e8/train/000000"]


@pytest.mark.parametrize("name", ["", "*", "**", ".."])
def test_a_plan_for_a_target_of_an_impossible_name_is_named(root, name):
    table, config = read_table(root / "plans" / "small-test.parquet", PLAN)
    config = config | {"target": config["target"] | {"name": name}}
    write_table(root / "plans" / f"{name}-test.parquet", with_column(table, "target", name), config)
    found = findings(root)
    assert sorted(place for place, _ in found) == ["collection.json", "plans"]
    assert all(f"plans/{name}-test.parquet" in problem for _, problem in found)


def test_fewer_rows_than_the_marker_counts_are_named(root):
    shard_id = shards_of(root)[0]
    table, config = shard_id.rows()
    write_table(shard_id.manifest, table.slice(1), config)
    vouched(shard_id)
    ((place, problem),) = findings(root)
    assert place == str(shard_id.shard_id)
    assert "rows" in problem


@pytest.mark.parametrize(
    "counts",
    [{"planned": 1, "stored": 1, "failed": 0, "succeeded": 0}, {"extra": 1}, {"unreadable": "many"}],
    ids=["fewer", "more", "no number"],
)
def test_odd_counts_of_a_strangers_marker_break_no_sums(root, counts):
    shard_id = Collection(root).committed[0]
    marker = read_json(marker_of(shard_id))
    marker["counts"] = counts if "planned" in counts else marker["counts"] | counts
    write_json(marker_of(shard_id), marker)
    try:
        assert status(Collection(root))["groups"]
    except InputError as error:
        assert "counts" in str(error)


def test_a_broken_marker_elsewhere_does_not_keep_a_glob_from_its_shards(root):
    marker_of(shards_of(root)[0]).write_text("{")
    found = select_shards(f"{root}/small/*/train/*.tar")
    assert {each.shard_id.split for each in found} == {"train"}
