import pytest
import torch

from impure.manifests.base.errors import InputError
from impure.purifier.losses.rcm import combine


def shares(variant: str, batch: int = 300) -> torch.Tensor:
    ones, zeros = torch.ones(batch, 3, 12, 16), torch.zeros(batch, 3, 12, 16)
    mixed = combine(ones, zeros, 4, variant, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    cut = mixed.unflatten(2, (3, 4)).unflatten(4, (4, 4))
    assert (cut == cut[:, :1, :, :1, :, :1]).all()  # constant on a patch, the same for all channels
    return cut[:, 0, :, 0, :, 0].flatten(1)


def test_code_keeps_one_segment_adversarial() -> None:
    u = shares("code")
    assert set(u.unique().tolist()) == {0.0, 1.0}
    assert set((12 - u.sum(1)).tolist()) == {6.0, 4.0, 3.0}  # one of 2, 3, 4 segments of 12 patches
    assert len({tuple(row) for row in u.tolist()}) > 200


def test_release_draws_one_number_of_segments_for_a_batch() -> None:
    u = shares("release")
    assert len(set(u.sum(1).tolist())) == 1 and u.sum(1)[0] in (6, 8, 9)
    assert len({tuple(row) for row in u.tolist()}) > 100


def test_paper_draws_uniform_shares() -> None:
    u = shares("paper")
    assert u.min() >= 0 and u.max() < 1
    assert abs(u.mean() - 0.5) < 0.02 and abs(u.var() - 1 / 12) < 0.01


@pytest.mark.parametrize("variant", ["code", "release", "paper"])
def test_keeps_the_images_precision(variant: str) -> None:
    images = torch.rand(2, 3, 8, 8)
    for dtype in (torch.bfloat16, torch.float64):
        generator = torch.Generator().manual_seed(0)
        assert combine(images.to(dtype), images.to(dtype), 4, variant, generator).dtype == dtype  # type: ignore[arg-type]


def test_bad_arguments() -> None:
    with pytest.raises(InputError, match="code, paper, release"):
        shares("mix")
    with pytest.raises(InputError, match="8x10 pixels are no multiples of 4"):
        combine(*torch.rand(2, 1, 3, 8, 10), 4, "code", torch.Generator())
