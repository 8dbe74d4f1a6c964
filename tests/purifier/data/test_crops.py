import pytest
import torch

from impure.manifests.base.errors import InputError
from impure.purifier.data.crops import crop_side, paired_crops
from impure.purifier.data.dataset import Batch

UNLABELLED = torch.empty(0, dtype=torch.int64)


def test_crop_rule() -> None:
    assert [crop_side(side, None, 32) for side in (224, 299, 64, 100)] == [192, 256, 64, 96]
    assert crop_side(224, 96, 16) == 96
    for side, crop, word in ((64, 100, "multiple of the network's 32"), (64, 96, "sides of 64")):
        with pytest.raises(InputError, match=word):
            crop_side(side, crop, 32)
    with pytest.raises(InputError, match="images of 24 pixels, and the network takes multiples of 32"):
        crop_side(24, None, 32)


def test_variants_get_the_window_of_their_clean_image() -> None:
    clean = (torch.arange(9 * 11).view(1, 1, 9, 11) + torch.arange(0, 3).view(3, 1, 1)).byte()
    clean = clean.expand(20, 3, 9, 11)
    image = torch.arange(20).repeat_interleave(3)
    batch = Batch(clean[image] + 7, clean, image, 1.0, UNLABELLED)
    adversarial, windows = paired_crops(batch, 4, 5, torch.Generator().manual_seed(0))
    assert windows.shape == (20, 3, 4, 5) and adversarial.shape == (60, 3, 4, 5)
    assert windows.dtype == adversarial.dtype == torch.uint8
    assert torch.equal(adversarial, windows[image] + 7)
    corners = windows[:, 0, 0, 0].long()
    assert len(corners.unique()) > 5
    row, column = corners[3] // 11, corners[3] % 11
    assert torch.equal(windows[3], clean[3, :, row : row + 4, column : column + 5])


def test_every_window_that_fits_can_be_cut() -> None:
    clean = torch.arange(3 * 4).view(1, 1, 3, 4).byte().expand(200, 3, 3, 4)
    batch = Batch(clean, clean, torch.arange(200), 1.0, UNLABELLED)
    windows = paired_crops(batch, 2, 3, torch.Generator().manual_seed(0))[1]
    assert windows[:, 0, 0, 0].unique().tolist() == [0, 1, 4, 5]  # two rows, two columns


def test_whole_images() -> None:
    clean = torch.randint(256, (2, 3, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
    batch = Batch(clean, clean, torch.arange(2), 1.0, UNLABELLED)
    assert all(torch.equal(each, clean) for each in paired_crops(batch, 8, 8, torch.Generator()))
