"""What was predicted for each image is kept, and agrees with the counts."""

from pathlib import Path

import pyarrow.compute as pc
import pytest
import torch

from impure.manifests.base.parquet import read_table
from impure.manifests.collection.collection import CommittedShard
from impure.purifier.data.pairs import list_pairs
from impure.purifier.defences.defence_registry import build_defences
from impure.purifier.evaluation.evaluate_config import EvaluateConfig
from impure.purifier.evaluation.image_predictions import (
    CLASS_NAMES,
    SCHEMA,
    group_measurement,
    image_predictions,
    write_predictions,
)
from impure.purifier.evaluation.measure import Evaluation, evaluate
from impure.purifier.evaluation.measure_group import Defended, GroupMeasurement
from impure.purifier.evaluation.predict import NO_CLASS
from impure.purifier.evaluation.select import select_groups
from tests.purifier.conftest import Brightness


@pytest.fixture(scope="module")
def evaluation(shards: list[CommittedShard]) -> Evaluation:
    config = EvaluateConfig(batch_size=4, extra_resize=True)
    return evaluate(
        shards, {"toy": Brightness()}, build_defences(["none", "jpeg"]), config, device=torch.device("cpu")
    )


def test_every_row_has_the_answers_that_it_counts(evaluation: Evaluation) -> None:
    table = evaluation.predictions
    assert table.schema == SCHEMA and len(table) == sum(row.n for row in evaluation.rows)
    for row in evaluation.rows:
        cell = pc.and_(pc.equal(table["defence"], row.defence), pc.equal(table["attack"], row.attack))
        answers = table.filter(cell)
        assert (len(answers), pc.sum(answers["right"]).as_py()) == (row.n, row.correct)
        assert answers["right"].to_pylist() == pc.equal(answers["label"], answers["predicted"]).to_pylist()
    assert table["rejected"].null_count == len(table)


def test_images_are_named_by_the_digests_of_the_manifest(
    evaluation: Evaluation, shards: list[CommittedShard]
) -> None:
    rows = {(row["attack"], row["key"]): row for row in evaluation.predictions.to_pylist()}
    for pair in list_pairs(shards):
        row = rows[pair.shard.shard_id.attack, pair.key]
        assert (row["image"], row["pixels"]) == (pair.clean_sha256, pair.adversarial_sha256)
        assert row["label"] == pair.label
    clean = [row for (attack, _), row in rows.items() if attack == "clean"]
    assert len(clean) == 6 and all(row["image"] == row["pixels"] for row in clean)


def test_what_was_measured_comes_back_from_its_rows(shards: list[CommittedShard]) -> None:
    group = select_groups(shards, {"toy": Brightness()})[1]
    classes = torch.tensor([0, 1, NO_CLASS, 1, 0, 1])
    right, refused = classes == 1, torch.tensor([True, False, True, False, False, True])
    by_name = {"plain": classes, "detector": 1 - classes}
    shown = Defended({}, {}, {})
    measured = GroupMeasurement(
        predictions=by_name,
        right={"plain": right, "detector": ~right},
        rejected={"detector": refused},
        shown=shown,
    )
    again = group_measurement(image_predictions(group, measured), shown)
    for one, other in (
        (again.predictions, by_name),
        (again.right, measured.right),
        (again.rejected, measured.rejected),
    ):
        assert list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)
    assert again.not_finite == measured.not_finite == 1


def test_they_are_written_with_their_conditions(evaluation: Evaluation, tmp_path: Path) -> None:
    path = write_predictions(
        tmp_path, "report", evaluation.predictions, evaluation.conditions, ("dark", "bright")
    )
    assert path.name == "report-predictions.parquet"
    table, conditions = read_table(path, SCHEMA)
    assert table.replace_schema_metadata(None) == evaluation.predictions
    assert conditions[CLASS_NAMES] == ["dark", "bright"] and conditions["seed"] == 0
