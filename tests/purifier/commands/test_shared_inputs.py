"""Noise steps at test time are set where the masking mode has such noise, and refused elsewhere."""

from collections.abc import Callable

import pytest

from impure.manifests.base.errors import InputError
from impure.purifier.commands.shared_inputs import set_noise_steps
from impure.purifier.riae.model import RIAE


def test_noise_steps_are_set_where_there_is_such_noise(riae: Callable[[str], RIAE]) -> None:
    model = riae("feature-noise")
    set_noise_steps(model, None, 0)
    assert (model.config.image_step, model.config.feature_step) == (400, 0)
    with pytest.raises(InputError, match="--image-step: masking mode feature-noise has no such noise"):
        set_noise_steps(model, 0, None)
