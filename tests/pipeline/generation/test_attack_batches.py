"""What a row says of its image: measured on the bytes, as the target predicts."""

from types import SimpleNamespace

import pytest
import torch

from impure.pipeline.attacks.engine.threat_model import AttackResult
from impure.pipeline.generation.attack_batches import _verdicts


def predicts(*classes):
    """A job whose target predicts these classes, one an image, with probability 0.9."""
    logits = torch.full((len(classes), 3), 0.05).scatter_(1, torch.tensor(classes)[:, None], 0.9).log()
    return SimpleNamespace(target=lambda images: logits)


def verdicts(predictions, labels, target_classes, change=(0, 0, 0)):
    clean = torch.full((3, 1, 2, 2), 100, dtype=torch.uint8)
    adversarial = clean.clone()
    adversarial[:, 0, 0, 0] += torch.tensor(change, dtype=torch.uint8)
    result = AttackResult(
        adversarial=adversarial,
        proposal_linf_255=torch.tensor([1.5, 0.0, 20.0]),
        pred_float=torch.tensor([2, 1, 0]),
        grad_evals=torch.tensor([7, 0, 3]),
        target_classes=torch.tensor(target_classes),
    )
    return _verdicts(predicts(*predictions), clean, torch.tensor(labels), result)


def test_a_change_is_measured_either_way():
    rows = verdicts((0, 1, 2), (0, 1, 2), (-1, -1, -1), change=(3, 0, 256 - 5))  # darker by 5
    assert [row["linf_255"] for row in rows] == [3, 0, 5]
    assert [row["l2"] for row in rows] == pytest.approx([3 / 255, 0, 5 / 255])


def test_success_is_another_class_or_the_class_that_was_aimed_at_the_first_one_too():
    rows = verdicts(predictions=(0, 0, 1), labels=(1, 1, 1), target_classes=(-1, 0, -1))
    assert [row["success"] for row in rows] == [True, True, False]
    rows = verdicts(predictions=(2, 0, 2), labels=(1, 1, 1), target_classes=(0, 2, 2))
    assert [row["success"] for row in rows] == [False, False, True]


def test_what_the_attack_and_the_target_say_is_written_as_it_is():
    rows = verdicts(predictions=(0, 0, 1), labels=(1, 1, 1), target_classes=(-1, 0, 2))
    assert [row["conf_adv"] for row in rows] == pytest.approx([0.9] * 3)
    assert [row["pred_adv"] for row in rows] == [0, 0, 1]
    assert [row["pred_adv_float"] for row in rows] == [2, 1, 0]
    assert [row["grad_evals"] for row in rows] == [7, 0, 3]
    assert [row["proposal_linf_255"] for row in rows] == [1.5, 0.0, 20.0]
    assert [row["target_class"] for row in rows] == [-1, 0, 2]
