"""Defences with detectors: what rejecting counts as, thresholds, reports."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from impure.manifests.base.errors import InputError
from impure.manifests.collection.collection import CommittedShard
from impure.purifier.defences.base.classify import Classifier
from impure.purifier.defences.base.defence import Defence
from impure.purifier.defences.static.none import NoDefence
from impure.purifier.evaluation.evaluate_config import EvaluateConfig
from impure.purifier.evaluation.measure import Evaluation, evaluate
from impure.purifier.evaluation.reports.report_table import rejected_note, terminal_table
from impure.purifier.evaluation.tables.table1_files import write_report
from tests.purifier.conftest import Brightness


class Suspicious(Defence):
    """Hands images on, and refuses those whose classifier is surer than it was of any clean one."""

    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        self.threshold, self.shift, self.calls = 0.0, shift, 0

    def defend(self, images: Tensor) -> Tensor:
        return images

    def calibrate(self, clean: Iterable[Tensor], classifier: Classifier) -> None:
        self.calls += 1
        self.threshold = max(float(classifier(images).amax()) for images in clean) + self.shift

    def rejects(self, images: Tensor, classifier: Classifier) -> Tensor:
        return classifier(images).amax(1) > self.threshold


def measured(
    shards: list[CommittedShard],
    defences: dict[str, nn.Module],
    *,
    validation: list[CommittedShard],
    limit: int | None = None,
) -> Evaluation:
    config = EvaluateConfig(batch_size=4, limit=limit, extra_resize=True)
    device = torch.device("cpu")
    return evaluate(shards, {"toy": Brightness()}, defences, config, device=device, validation=validation)


def test_rejected_attacks_count_as_right_and_rejected_clean_images_as_wrong(
    shards: list[CommittedShard],
) -> None:
    always, never = Suspicious(-10), Suspicious(10)
    defences = {"none": NoDefence(), "always": always, "never": never}
    evaluation = measured(shards, defences, validation=shards)
    rows = {(row.defence, row.attack): row for row in evaluation.rows}
    for (defence, attack), row in rows.items():
        name = defence.removesuffix("+resize")
        bare = rows[defence.replace(name, "none"), attack]
        if name == "always":
            assert (row.correct, row.rejected) == (0 if attack == "clean" else row.n, row.n)
        else:
            assert (row.correct, row.rejected) == (bare.correct, None if name == "none" else 0)
    assert always.calls == never.calls == 1
    thresholds = evaluation.conditions["thresholds"]
    assert [text.split(": ")[0] for text in thresholds] == ["always on toy", "never on toy"]


def test_clean_images_of_validation_set_the_thresholds(shards: list[CommittedShard]) -> None:
    defence = Suspicious()
    evaluation = measured(shards, {"suspicious": defence}, validation=shards)
    (clean,) = [row for row in evaluation.rows if row.attack == "clean" and row.defence == "suspicious"]
    assert clean.rejected == 0 and defence.threshold > 0
    assert evaluation.conditions["thresholds"] == [f"suspicious on toy: {clean.n} clean images of validation"]
    with pytest.raises(InputError, match="'suspicious' sets its thresholds .* none of 'toy'"):
        measured(shards, {"suspicious": Suspicious()}, validation=[])


def test_reports_say_what_was_rejected(shards: list[CommittedShard], tmp_path: Path) -> None:
    evaluation = measured(shards, {"none": NoDefence(), "always": Suspicious(-10)}, validation=shards)
    note = rejected_note(evaluation)
    assert note.startswith("Rejected by detectors: always on toy 100.0 % of clean, 100.0 % of ")
    paths = {path.name: path for path in write_report(evaluation, tmp_path, images="toy")}
    document = json.loads(paths["report.json"].read_text())
    assert {row["rejected"] for row in document["rows"]} >= {None}
    assert paths["report.csv"].read_text().splitlines()[0].endswith(",rejected")
    assert all(note in paths[name].read_text() for name in ("report.md", "report.html"))
    always = [row for row in evaluation.predictions.to_pylist() if row["defence"] == "always"]
    assert {(row["attack"] == "clean", row["rejected"], row["right"]) for row in always} == {
        (True, True, False), (False, True, True),
    }  # fmt: skip
    assert "always" in terminal_table(evaluation, 200)
    assert not rejected_note(measured(shards, {"none": NoDefence()}, validation=[]))
