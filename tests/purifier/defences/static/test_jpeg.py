import io
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from impure.manifests.base.errors import InputError
from impure.purifier.defences.static.jpeg import Jpeg


@pytest.mark.parametrize("quality", [20, 75])
def test_equals_pillow(quality: int) -> None:
    images = torch.rand(2, 3, 20, 33)
    compressed = Jpeg(quality=quality)(images)
    for image, result in zip(images, compressed, strict=True):
        pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=quality)  # 4:2:0 by default
        assert np.array_equal(
            (result * 255).round().byte().permute(1, 2, 0).numpy(), np.array(Image.open(file))
        )


def test_the_codec_lends_its_gradient_to_pillows_image() -> None:
    from kornia.enhance import jpeg_codec_differentiable

    rows = torch.linspace(0, 6, 37)[:, None]
    smooth = 0.5 + 0.3 * torch.sin(rows + torch.linspace(0, 9, 41)).expand(2, 3, 37, 41)
    images = (smooth + 0.05 * torch.rand(2, 3, 37, 41)).requires_grad_()
    weight = torch.randn(2, 3, 37, 41)
    compressed = Jpeg(backward="codec")(images)
    assert torch.equal(compressed, Jpeg()(images))
    codec = jpeg_codec_differentiable(images, torch.tensor([75.0]))
    assert (codec - compressed).abs().mean() * 255 < 3
    gradients = [torch.autograd.grad((out * weight).sum(), images)[0] for out in (compressed, codec)]
    assert torch.allclose(*gradients) and not torch.allclose(gradients[0], weight, atol=0.1)
    with torch.no_grad():
        assert torch.equal(Jpeg(backward="codec")(images), compressed)


@pytest.mark.parametrize("size", [(1, 1), (1, 17), (33, 5)])
def test_the_codec_takes_every_size(size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(Jpeg(backward="codec")(images).sum(), images)
    assert gradient.shape == images.shape and gradient.isfinite().all()


def test_wrong_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="quality 0"):
        Jpeg(quality=0)
    with pytest.raises(InputError, match="'bpda' through JPEG; choose from straight-through, codec"):
        Jpeg(backward="bpda")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "kornia", None)
    with pytest.raises(InputError, match=r"needs kornia.*: pip install 'impure\[defences\]'"):
        Jpeg(backward="codec")
