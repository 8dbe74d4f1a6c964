"""Defences that change the size, before classifiers that take any size and before one that does not."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from impure.manifests.base.errors import InputError
from impure.pipeline.targets.target import Target
from impure.pipeline.targets.target_card import read_card
from impure.pipeline.targets.target_names import BUILTIN_CARD
from impure.purifier.defences.base.classify import classify
from impure.purifier.defences.defence_registry import build_defences
from impure.purifier.defences.defended_model import DefendedModel
from impure.purifier.evaluation.evaluate_config import EvaluateConfig
from impure.purifier.evaluation.measure import evaluate
from impure.purifier.evaluation.tables.table1_files import write_report
from tests.purifier.conftest import Brightness, write_collection


class OneSize(nn.Module):
    """Like a ViT."""

    def __init__(self, error: type[Exception] = AssertionError) -> None:
        super().__init__()
        self.error = error

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[2:] != (48, 48):
            raise self.error("Input height (53) doesn't match model (48).")
        return images.mean((2, 3))


def target(error: type[Exception] = AssertionError) -> Target:
    return Target(read_card(Path(BUILTIN_CARD)), OneSize(error))  # 48 px


@pytest.mark.parametrize("error", [AssertionError, ValueError, RuntimeError])
def test_a_target_of_one_size_says_so(error: type[Exception]) -> None:
    assert classify(target(error), torch.rand(2, 3, 48, 48)).shape == (2, 3)
    random = build_defences(["random"])["random"]
    said = r"53 x 53 pixels \(Input height .*\); leave out .* 'random', or train with another --crop$"
    with pytest.raises(InputError, match=said):
        DefendedModel(random, target(error))(torch.rand(2, 3, 48, 48))


def test_other_errors_are_not_explained_away() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        classify(target(torch.OutOfMemoryError), torch.rand(1, 3, 53, 53))
    with pytest.raises(AssertionError):
        classify(OneSize(), torch.rand(1, 3, 53, 53))  # no target: nobody knows its size


def test_evaluation_shows_enlarged_images_to_the_classifier(tmp_path: Path) -> None:
    shards = write_collection(tmp_path / "root", count=4, sizes=((40, 40),))
    evaluation = evaluate(
        shards,
        {"toy": Brightness()},
        build_defences(["none", "random"]),
        EvaluateConfig(samples=3, combine="vote", extra_resize=True),
        device=torch.device("cpu"),
    )
    accuracy = {(row.attack, row.defence): row.correct / row.n for row in evaluation.rows}
    assert accuracy["fgsm", "random"] == 0  # the toy attack inverts images, which no resizing mends
    assert evaluation.examples[0].images["random"].shape == (44, 44, 3)
    write_report(evaluation, tmp_path / "report", images=4)


def test_defended_model_is_differentiable_through_enlarged_images() -> None:
    images = torch.rand(2, 3, 32, 32).requires_grad_()
    logits = DefendedModel(build_defences(["random"])["random"], Brightness(), seed=1)(images)
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), images)
    assert logits.shape == (2, 2) and gradient.shape == images.shape
