import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from impure.manifests.base.errors import InputError
from impure.purifier.defences.defence_registry import DEFENCES, build_defences
from impure.purifier.defences.jpeg import Jpeg
from impure.purifier.defences.riae_defence import RIAEDefence
from impure.purifier.riae.model import RIAE

Make = Callable[[str], RIAE]


def test_jpeg_equals_pillow() -> None:
    images = torch.rand(2, 3, 20, 33)
    found = Jpeg(75)(images)
    for image, result in zip(images, found, strict=True):
        pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=75)
        assert np.array_equal(
            (result * 255).round().byte().permute(1, 2, 0).numpy(), np.array(Image.open(file))
        )
    with pytest.raises(InputError, match="quality 0"):
        Jpeg(0)


def test_contract(riae: Make) -> None:
    images = torch.rand(2, 3, 16, 20)
    for name, defence in build_defences(list(DEFENCES), riae("both")).items():
        with torch.no_grad():
            found = defence(images)
        assert found.shape == images.shape and found.dtype == images.dtype, name
        assert found.min() >= 0 and found.max() <= 1, name
        assert torch.equal(found, images) == (name == "none")


def test_riae_goes_on_drawing_until_reseeded(riae: Make) -> None:
    defence, images = RIAEDefence(riae("both"), seed=4), torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        one, two = defence(images), defence(images)
        defence.reseed(4)
        assert torch.equal(one, defence(images)) and not torch.equal(one, two)


def test_alike_draws_make_an_image_independent_of_its_row(riae: Make) -> None:
    for mask, partition in (("both", "uniform"), ("occlusion", "random")):
        model = riae(mask).double()
        defence, images = RIAEDefence(model, partition=partition), torch.rand(3, 3, 18, 21).double()  # type: ignore[arg-type]
        with torch.no_grad():
            defence.reseed(4, alike=True)
            together = defence(images)
            assert not torch.equal(together, defence(images))
            defence.reseed(4, alike=True)
            assert torch.allclose(together[[2, 0]], defence(images[[2, 0]]), atol=1e-12)
            defence.reseed(4)
            first = model.purify(images[:1], seed=4, partition=partition)  # type: ignore[arg-type]
        assert torch.allclose(together[:1], first, atol=1e-12)


def test_options_reach_the_purifier(riae: Make) -> None:
    model, images = riae("both"), torch.rand(2, 3, 16, 16)
    built = build_defences(["none", "riae"], model, partition="random")
    assert list(built) == ["none", "riae"]
    with torch.no_grad():
        wanted = model.purify(images, seed=0, partition="random")
        assert torch.equal(built["riae"](images), wanted)


def test_gradients_pass_through_the_purifier(riae: Make) -> None:
    images = torch.rand(1, 3, 16, 16, requires_grad=True)
    RIAEDefence(riae("both"))(images).sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0


def test_wrong_options(riae: Make) -> None:
    with pytest.raises(InputError, match="choose from none, jpeg, riae"):
        build_defences(["magic"])
    with pytest.raises(InputError, match="needs a trained purifier"):
        build_defences(["riae"])
    with pytest.raises(InputError, match="'mixed' is unknown; choose from uniform, random"):
        build_defences(["riae"], riae("both"), partition="mixed")  # type: ignore[arg-type]
