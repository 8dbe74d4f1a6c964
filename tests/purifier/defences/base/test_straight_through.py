import sys

import pytest
import torch
from torch.func import grad, vmap

from impure.manifests.base.errors import InputError
from impure.purifier.defences.base.extras import needs_extra
from impure.purifier.defences.base.straight_through import straight_through


def test_the_value_is_kept_to_the_last_bit_and_the_gradient_goes_to_the_images() -> None:
    images, value = torch.rand(2, 3, 5, 5).requires_grad_(), torch.rand(2, 3, 5, 5)
    weight = torch.randn(2, 3, 5, 5)
    passed = straight_through(images, value)
    assert torch.equal(passed, value) and passed.data_ptr() != value.data_ptr()
    (gradient,) = torch.autograd.grad((passed * weight).sum(), images)
    assert torch.equal(gradient, weight)
    with torch.no_grad():
        assert not straight_through(images, value).requires_grad


def test_the_gradient_can_be_taken_by_torch_func() -> None:
    images = torch.rand(3, 4)
    slope = vmap(grad(lambda image: straight_through(image, image.round()).square().sum()))(images)
    assert torch.equal(slope, 2 * images.round())


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pywt", None)
    with pytest.raises(InputError, match=r"^magic needs pywt, .*: pip install 'impure\[defences\]'$"):
        with needs_extra("magic", "defences"):
            import pywt  # noqa: F401
