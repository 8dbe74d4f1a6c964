import pytest
import torch
from torchvision.transforms import v2

from impure.purifier.evaluation.predict import combined, release_resize


@pytest.mark.parametrize(
    ("combine", "wanted"),
    # Draws of four images of class 1: all right, one wrong, a tie of three, most wrong.
    [("vote", [1, 1, 2, 0]), ("worst", [1, 0, 2, 0]), ("average", [1, 0, 2, 1])],
)
def test_draws_are_combined(combine: str, wanted: list[int]) -> None:
    predictions = torch.tensor([[1, 0, 2, 1], [1, 1, 1, 0], [1, 1, 0, 0]])
    assert combined(predictions, torch.ones(4, dtype=torch.int64), combine).tolist() == wanted  # type: ignore[arg-type]


def test_resizing_of_the_release() -> None:
    images = torch.rand(2, 3, 224, 224)
    wanted = v2.functional.resize(v2.functional.pad(images, [32]), [224, 224], antialias=False)
    assert torch.equal(release_resize(images), wanted)
    images = torch.rand(1, 3, 299, 299)
    assert torch.equal(release_resize(images), v2.functional.resize(images, [331, 331], antialias=False))
    assert release_resize(torch.rand(1, 3, 64, 48)).shape == (1, 3, 64, 48)
