"""What a row says of its image: measured on the bytes, as the target predicts."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from impure.manifests.collection.schema import FAILED
from impure.manifests.collection.shard_id import ShardId
from impure.pipeline.attacks.engine.threat_model import AttackError, AttackResult
from impure.pipeline.generation.attack_batches import _attack, _verdicts
from impure.pipeline.generation.clean_cache import PlannedImage
from impure.pipeline.generation.time_left import PassMeter


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
    return _verdicts(predicts(*predictions), list("abc"), clean, torch.tensor(labels), result)


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


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_logits_that_break_on_the_stored_bytes_are_never_a_success(broken):
    """The second image's logits break: it is named, so that it becomes a failed row."""
    logits = torch.zeros(3, 3)
    logits[1, 0] = broken
    logits[2, 2] = -torch.inf  # which only rules a class out
    images = torch.zeros(3, 1, 2, 2, dtype=torch.uint8)
    zeros = torch.zeros(3, dtype=torch.int64)
    result = AttackResult(
        adversarial=images,
        proposal_linf_255=zeros,
        pred_float=zeros,
        grad_evals=zeros,
        target_classes=zeros - 1,
    )
    job = SimpleNamespace(target=lambda images: logits)
    with pytest.raises(AttackError, match=r"logits on the stored bytes for image b$"):
        _verdicts(job, list("abc"), images, zeros, result)


def test_an_image_whose_stored_bytes_break_the_target_is_a_failed_row_and_the_others_are_kept():
    def brittle(images):
        """NaN for the brightest image."""
        return images.mean((2, 3)).masked_fill((images.amax((1, 2, 3)) == 1)[:, None], torch.nan)

    brittle.mean, brittle.card = torch.zeros(1), SimpleNamespace(name="brittle")
    brittle.lay_out, brittle.memory_format = lambda memory_format: None, torch.channels_last
    job = SimpleNamespace(
        target=brittle,
        attack=None,
        attack_name="clean",
        seed=0,
        run_id="r",
        memory_format="channels_last",
        compiled=None,
    )
    pixels = [np.full((2, 2, 3), level, np.uint8) for level in (10, 255, 20)]
    rows = [{"source_id": name, "label": 0} for name in "abc"]
    images = [PlannedImage(row, pixel, b"", b"") for row, pixel in zip(rows, pixels, strict=True)]
    batch = _attack(job, images, PassMeter(ShardId("t", "clean", "train", 0), lambda event: None))
    assert len(batch.samples) == 2
    assert [(row["source_id"], row["status"]) for row in batch.failed] == [("b", FAILED)]
    assert "NaN" in batch.failed[0]["error"]
