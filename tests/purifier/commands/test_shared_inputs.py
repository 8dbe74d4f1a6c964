"""What commands share: noise steps where there is such noise, the shards that thresholds need."""

from collections.abc import Callable
from pathlib import Path

import pytest

from impure.manifests.base.errors import InputError
from impure.purifier.commands.shared_inputs import open_validation, set_noise_steps
from impure.purifier.riae.model import RIAE
from tests.purifier.conftest import write_collection


def test_noise_steps_are_set_where_there_is_such_noise(riae: Callable[[str], RIAE]) -> None:
    model = riae("feature-noise")
    set_noise_steps(model, None, 0)
    assert (model.config.image_step, model.config.feature_step) == (400, 0)
    with pytest.raises(InputError, match="--image-step: masking mode feature-noise has no such noise"):
        set_noise_steps(model, 0, None)


def test_detectors_need_the_split_validation(tmp_path: Path) -> None:
    write_collection(tmp_path)  # of the split train
    with pytest.raises(InputError, match="^detectors set their thresholds on the split validation: "):
        open_validation(str(tmp_path))
