import sys
import time

import numpy as np
import pytest
import torch
from torch import Tensor

from impure.manifests.base.errors import InputError
from impure.purifier.defences.defence_registry import build_defence
from impure.purifier.defences.static.pixel_deflection import PixelDeflection, origins
from impure.purifier.defences.static.wavelet_denoising import denoise


def impure(deflections: int) -> PixelDeflection:
    """What RIAE's paper compared with, with another number of deflections."""
    defence = build_defence(f"pixel-deflection-impure:deflections={deflections}")
    assert isinstance(defence, PixelDeflection)
    return defence


def one_after_the_other(written: Tensor, read: Tensor, size: int) -> Tensor:
    """`origins` as a plain loop."""
    values = torch.arange(size).repeat(len(written), 1)
    for row in range(len(written)):
        for to, source in zip(written[row].tolist(), read[row].tolist(), strict=True):
            values[row, to] = values[row, source].clone()
    return values


@pytest.mark.parametrize(("size", "count"), [(1, 3), (5, 1), (7, 40), (30, 30), (400, 150)])
def test_equals_a_loop_over_deflections(size: int, count: int) -> None:
    generator = torch.Generator().manual_seed(size)
    written, read = torch.randint(0, size, (2, 4, count), generator=generator)
    assert torch.equal(origins(written, read, size), one_after_the_other(written, read, size))


def test_a_chain_copies_one_value_all_along() -> None:
    ahead = torch.arange(100)[None]
    assert torch.equal(origins(ahead + 1, ahead, 101), torch.zeros(1, 101, dtype=torch.int64))
    assert torch.equal(origins(ahead.flip(1) + 1, ahead.flip(1), 101)[0], (torch.arange(101) - 1).clamp(0))


def addresses(height: int, width: int) -> Tensor:
    """An image whose every value is its own place in the batch's row, over the number of places."""
    return torch.arange(3 * height * width).double().view(1, 3, height, width) / (3 * height * width)


def test_values_of_one_channel_move_by_at_most_the_window() -> None:
    height, width = 40, 50
    images = addresses(height, width).repeat(20, 1, 1, 1)
    deflected = PixelDeflection().deflect(images)
    before, after = ((x * images[0].numel()).round().long() for x in (images, deflected))
    area = height * width
    assert torch.equal(before // area, after // area)
    rows, columns = (before % area) // width, before % width
    up, aside = rows - (after % area) // width, columns - after % width
    moved = before != after
    assert 150 < moved.sum() / 20 <= 200
    per_channel = moved.sum((0, 2, 3)) / 20
    assert (per_channel - 66).abs().max() < 8
    # one copied what an earlier one had written: twice as far, and seldom
    assert max(up.abs().max(), aside.abs().max()) <= 20
    assert ((up.abs() > 10) | (aside.abs() > 10)).sum() < 0.05 * moved.sum()
    assert abs(float(up[moved].float().mean())) < 0.5
    for places, length in ((rows, height), (columns, width), (rows - up, height), (columns - aside, width)):
        assert places[moved].unique().tolist() == list(range(length))  # borders too are written, and read


def test_whole_pixels_move_in_the_form_that_riae_was_compared_with() -> None:
    images = addresses(60, 60)
    deflected = impure(900).deflect(images)
    moved = images != deflected
    assert torch.equal(moved[:, 0], moved[:, 1]) and torch.equal(moved[:, 0], moved[:, 2])
    shift = (deflected - images)[0]
    assert torch.allclose(shift[0], shift[1]) and torch.allclose(shift[0], shift[2])
    assert 0.15 < moved.float().mean() < 0.25  # 900 of 3,600, some of them twice
    defence = build_defence("pixel-deflection-impure")
    assert isinstance(defence, PixelDeflection)
    assert (defence.deflections, defence.window, defence.sigma) == (12_000, 20, None)


@pytest.mark.parametrize("defence", [PixelDeflection(), impure(500)])
def test_is_deflection_then_denoising_and_its_gradient_a_scatter(defence: PixelDeflection) -> None:
    images = torch.rand(2, 3, 31, 26).requires_grad_()
    defence.reseed(3)
    defended = defence(images)
    defence.reseed(3)
    deflected = defence.deflect(images)
    assert torch.equal(defended, denoise(deflected, defence.sigma))
    weight = torch.randn(2, 3, 31, 26)
    (gradient,) = torch.autograd.grad((defended * weight).sum(), images)
    defence.reseed(3)
    places = addresses(31, 26).expand(2, 3, 31, 26)
    source = (defence.deflect(places) * places[0].numel()).round().long().flatten(1)
    wanted = torch.zeros(2, source.shape[1]).scatter_add(1, source, weight.flatten(1))
    assert torch.allclose(gradient.flatten(1), wanted, atol=1e-5)


def test_a_batch_of_photographs_takes_seconds() -> None:
    images = torch.rand(32, 3, 224, 224)
    begin = time.process_time()
    impure(12_000).deflect(images)
    denoise(images[:4], None)
    assert time.process_time() - begin < 20


@pytest.mark.parametrize(
    "wrong", [{"deflections": 0}, {"deflections": 10**9}, {"window": 0}, {"sigma": -1.0}, {"sigma": np.nan}]
)
def test_wrong_parameters(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="deflections are 1 to 1000000, the window 1 or more, sigma 0"):
        PixelDeflection(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="channels 'both'; choose apart or together"):
        PixelDeflection(channels="both")  # type: ignore[arg-type]


def test_scikit_image_is_asked_for_before_work_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(InputError, match=r"needs skimage.*: pip install 'impure\[defences\]'"):
        PixelDeflection()
