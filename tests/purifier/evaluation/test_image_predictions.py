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
from impure.purifier.evaluation.image_predictions import CLASS_NAMES, SCHEMA, write_predictions
from impure.purifier.evaluation.measure import Evaluation, evaluate
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


def test_they_are_written_with_their_conditions(evaluation: Evaluation, tmp_path: Path) -> None:
    path = write_predictions(
        tmp_path, "report", evaluation.predictions, evaluation.conditions, ("dark", "bright")
    )
    assert path.name == "report-predictions.parquet"
    table, conditions = read_table(path, SCHEMA)
    assert table.replace_schema_metadata(None) == evaluation.predictions
    assert conditions[CLASS_NAMES] == ["dark", "bright"] and conditions["seed"] == 0
