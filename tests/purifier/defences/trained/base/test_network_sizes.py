"""Tests of the bounds of networks' sizes."""

import pytest

from impure.manifests.base.errors import InputError
from impure.purifier.defences.trained.base.network_sizes import check_sizes


def test_sizes_have_bounds() -> None:
    check_sizes("edsr", blocks=(1, 64), width=(64, 64))
    for size in (0, -3, 65, float("nan")):
        with pytest.raises(InputError, match=f"edsr: width is {size}; it must be from 1 to 64"):
            check_sizes("edsr", blocks=(16, 64), width=(size, 64))
