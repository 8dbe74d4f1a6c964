"""Frozen plans: one reader, which takes nothing that its file name does not promise."""

import pyarrow as pa
import pytest

from impure.manifests.base.errors import InputError
from impure.manifests.base.parquet import write_table
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.plan import plan_differences
from impure.manifests.collection.schema import MANIFEST, PLAN

COUNTS = {"asked": 4, "misclassified": 2, "batch_size": 2, "threads": 1}
CONFIG = {"target": {"name": "toy"}, "source": "x", **COUNTS}


def table(**changes):
    """Two shards of two images, the last one unreadable."""
    rows = [
        {
            "shard": index // 2, "source_id": f"{index}.png", "split": "train", "target": "toy",
            "conf_clean": 0.5, "status": "unreadable" if index == 3 else "ok", **changes,
        }
        for index in range(4)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=PLAN)


@pytest.fixture
def collection(tmp_path):
    return Collection(tmp_path)


def test_a_plan_comes_back_as_it_was_frozen(collection):
    plan = collection.freeze_plan("train", table(), CONFIG)
    assert (plan.name, plan.target, plan.split, plan.shards) == ("toy-train", "toy", "train", (0, 1))
    assert [row["source_id"] for row in plan.rows_of(1)] == ["2.png", "3.png"]
    assert plan.counts() == {"asked": 4, "sampled": 3, "misclassified": 2, "unreadable": 1, "short": 1}
    again = collection.plan("toy", "train")
    assert again.digest == plan.digest and again.table.equals(plan.table) and again.config == CONFIG
    assert collection.plans().keys() == {"toy-train"}
    assert collection.plan("toy", "test") is None


def test_the_digest_is_of_config_and_rows(collection):
    first = collection.freeze_plan("train", table(), CONFIG).digest
    assert collection.freeze_plan("train", table(), CONFIG | {"asked": 5}).digest != first
    assert collection.freeze_plan("train", table().slice(1), CONFIG).digest != first


def test_the_digest_leaves_out_what_differs_between_machines(collection):
    first = collection.freeze_plan("train", table(error="/home/me/0.png: <object at 0x7f>"), CONFIG)
    second = collection.freeze_plan("train", table(error="damaged"), CONFIG | {"source": "copy"})
    assert first.digest == second.digest and plan_differences(first, second) == []
    other = collection.freeze_plan("train", table(error="", wnid="n1"), CONFIG | {"source": "z", "seed": 1})
    assert plan_differences(first, other) == ["seed (there 1, now null)", "the rows' wnid"]


def test_a_collection_tells_what_a_target_was_begun_with(collection):
    assert collection.begun_with() is None
    collection.freeze_plan("train", table(target="toy-2"), CONFIG | {"target": {"name": "toy-2"}})
    assert collection.begun_with("toy") is None
    assert collection.begun_with()["target"] == {"name": "toy-2"} == collection.begun_with("toy-2")["target"]


@pytest.mark.parametrize(
    ("rows", "config", "said"),
    [
        (table(split="test"), CONFIG, "another target or split"),
        (table(target="other"), CONFIG, "another target or split"),
        (table(), CONFIG | {"target": {"name": "other"}}, "another target or split"),
        (table(), CONFIG | {"target": "toy"}, "another target or split"),
        (table(), CONFIG | {"source": None}, "not a complete plan"),
        (table(shard=None), CONFIG, "not a complete plan"),
        (table(), {name: CONFIG[name] for name in CONFIG if name != "threads"}, "not a complete plan"),
        (table(), {name: CONFIG[name] for name in CONFIG if name != "asked"}, "not a complete plan"),
        (table(conf_clean=float("nan")), CONFIG, "numbers that no plan has"),
        (table(conf_clean=float("inf")), CONFIG, "numbers that no plan has"),
        (table(), CONFIG | {"threads": ["a"]}, r"numbers that no plan has \(threads\)"),
        (table(), CONFIG | {"batch_size": -1, "per_class": "5"}, r"\(batch_size, per_class\)"),
    ],
)
def test_what_is_not_the_plan_of_its_name_is_refused(collection, rows, config, said):
    path = collection.plan_path("toy", "train")
    path.parent.mkdir()
    write_table(path, rows, config)
    for read in (lambda: collection.plan("toy", "train"), collection.plans, collection.begun_with):
        with pytest.raises(InputError, match=rf"toy-train\.parquet: .*{said}"):
            read()


def test_manifest_columns_are_those_that_place_a_shard():
    assert {"target", "split", "shard"} <= set(MANIFEST.names)
