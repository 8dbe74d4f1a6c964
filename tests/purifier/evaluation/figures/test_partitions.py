"""Uniform and random partition: several samples of the measurement that table1 makes."""

import torch

from impure.manifests.collection.collection import CommittedShard
from impure.purifier.defences.riae_defence import RIAEDefence
from impure.purifier.evaluation.evaluate_config import EvaluateConfig
from impure.purifier.evaluation.figures.accuracy_bars import accuracy_bars
from impure.purifier.evaluation.figures.partitions import PartitionRow, measure_partitions, partition_table
from impure.purifier.evaluation.measure import evaluate
from impure.purifier.evaluation.scores import wilson
from tests.purifier.conftest import Brightness, small_riae

CPU = torch.device("cpu")


def test_each_sample_is_a_measurement_with_the_next_seed(shards: list[CommittedShard]) -> None:
    riae, config = small_riae(), EvaluateConfig(seed=3, limit=2)
    found = measure_partitions(shards, {"toy": Brightness()}, riae, config, samples=2, device=CPU)
    assert [(row.attack, row.partition, row.n, len(row.correct)) for row in found.rows[:3]] == [
        ("clean", "none", 2, 1), ("clean", "uniform", 2, 2), ("clean", "random", 2, 2),
    ]  # fmt: skip
    defences = {"random": RIAEDefence(riae, partition="random")}
    second = evaluate(
        shards, {"toy": Brightness()}, defences, EvaluateConfig(seed=4, limit=2), device=CPU
    ).rows
    assert [row.correct[1] for row in found.rows if row.partition == "random"] == [
        row.correct for row in second
    ]
    assert found.conditions["samples"] == 2 and found.conditions["seed"] == "3 and on, one for each sample"


def test_mean_least_and_most_of_the_samples() -> None:
    rows = [
        PartitionRow(target="t", attack="pgd", partition="none", n=10, correct=(0,)),
        PartitionRow(target="t", attack="pgd", partition="uniform", n=10, correct=(5, 8, 8)),
    ]
    assert partition_table(rows).splitlines()[2].split("|")[1:-1] == [
        " pgd    ", "  10 ", "  0.0 ", " 70.0 (50.0 to 80.0) ",
    ]  # fmt: skip
    record = rows[1].record()
    assert (record["accuracy"], record["lowest"], record["highest"], record["samples"]) == (0.7, 0.5, 0.8, 3)
    assert (record["wilson95_low"], record["wilson95_high"]) == tuple(round(end, 6) for end in wilson(7, 10))
    (axes,) = accuracy_bars([row.bar for row in rows], "t").axes
    assert [bar.get_height() for bar in axes.patches] == [0, 70]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["pgd"]
