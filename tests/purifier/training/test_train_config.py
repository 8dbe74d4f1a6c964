"""What a training configuration refuses, and the schedule that follows from it."""

from dataclasses import replace

import pytest

from impure.manifests.base.errors import InputError
from impure.purifier.riae import riae_config as presets
from impure.purifier.riae.model import RIAE
from impure.purifier.training.train_config import TRAINING, TrainConfig, learning_rate
from impure.purifier.training.train_step import parameter_groups


def test_schedule_and_decay() -> None:
    chosen = TrainConfig(epochs=10, warmup_epochs=2, learning_rate=1.0)
    rates = [learning_rate(chosen, step, 5) for step in range(50)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == pytest.approx(1.0) == pytest.approx(rates[10])
    assert rates[30] == pytest.approx(0.5, abs=1e-6) and rates[49] < 0.01
    assert learning_rate(chosen, 50, 5) == pytest.approx(1e-8)
    model = RIAE(replace(presets.PRESETS["tiny"], mask="occlusion"))
    decayed, plain = parameter_groups(model, chosen)
    names = {id(each): name for name, each in model.named_parameters()}
    assert {"cls_token", "mask_token", "proj_weights", "norm.weight"} <= {
        names[id(each)] for each in plain["params"]
    }
    assert all(names[id(each)].endswith(".weight") for each in decayed["params"])
    assert decayed["weight_decay"] == 0.05 and plain["weight_decay"] == 0


def test_config_checks() -> None:
    assert TrainConfig().loss.lambdas == {"features.38": 30, "features.51": 10, "classifier.1": 10}
    changed = TrainConfig(nodes=("a",), lambdas=(2.0,), feature_network="target")
    assert changed.loss.lambdas == {"a": 2.0} and changed.loss.network == "target"
    assert TrainConfig.for_preset("base", epochs=3).warmup_epochs == 1
    assert TrainConfig.for_preset("tiny").learning_rate == TRAINING["tiny"]["learning_rate"]
    for values, word in (
        ({"epochs": 0}, "epochs is 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"warmup_epochs": 101}, "exceeds epochs 100"),
        ({"recipe": "best"}, "choose from code, paper, pixel"),
        ({"nodes": ("a",)}, "1 nodes but 0 lambdas"),
        ({"preset": "huge"}, "no RIAE preset"),
    ):
        with pytest.raises(InputError, match=word):
            TrainConfig(**values)  # type: ignore[arg-type]
