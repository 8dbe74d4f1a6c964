"""What a training configuration refuses, and the schedule that follows from it."""

from dataclasses import replace

import pytest

from impure.manifests.base.errors import InputError
from impure.purifier.riae import riae_config as presets
from impure.purifier.riae.model import RIAE
from impure.purifier.training.objectives.riae_objective import RIAEObjective, new_riae
from impure.purifier.training.train_config import TRAINING, Adversary, TrainConfig, learning_rate
from impure.purifier.training.train_step import parameter_groups


def test_schedule_and_decay() -> None:
    chosen = TrainConfig(epochs=10, warmup_epochs=2, learning_rate=1.0)
    rates = [learning_rate(chosen, step, 5) for step in range(50)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == pytest.approx(1.0) == pytest.approx(rates[10])
    assert rates[30] == pytest.approx(0.5, abs=1e-6) and rates[49] < 0.01
    assert learning_rate(chosen, 50, 5) == pytest.approx(1e-8)
    model = RIAE(replace(presets.PRESETS["tiny"], mask="occlusion"))
    decayed, plain = parameter_groups(RIAEObjective(chosen, model, None), chosen.weight_decay)
    names = {id(each): name for name, each in model.named_parameters()}
    assert {"cls_token", "mask_token", "proj_weights", "norm.weight"} <= {
        names[id(each)] for each in plain["params"]
    }
    assert all(names[id(each)].endswith(".weight") for each in decayed["params"])
    assert decayed["weight_decay"] == 0.05 and plain["weight_decay"] == 0


def test_cycles_begin_at_the_peak_again() -> None:
    chosen = TrainConfig(epochs=30, warmup_epochs=2, learning_rate=1.0, lr_cycles=3)
    rates = [learning_rate(chosen, step, 5) for step in range(150)]
    one = TrainConfig(epochs=10, warmup_epochs=2, learning_rate=1.0)
    assert rates[:50] == [learning_rate(one, step, 5) for step in range(50)]
    assert rates[50] == rates[100] == 1.0 and rates[75] == pytest.approx(0.5)
    assert rates[49] < 0.01 > rates[99] and rates[50:100] == rates[100:]


def test_recipe_release_is_the_authors_program() -> None:
    chosen = TrainConfig.for_preset("base", recipe="release")
    assert (chosen.epochs, chosen.lr_cycles, chosen.batch_size, chosen.warmup_epochs) == (300, 3, 336, 5)
    assert chosen.loss.lambdas == TrainConfig().loss.lambdas and chosen.learning_rate == 1e-4 * 240 / 256
    assert TrainConfig.for_preset("base", recipe="release", epochs=6).warmup_epochs == 1
    tiny = TrainConfig.for_preset("tiny", recipe="release", mask="occlusion")
    model = new_riae(tiny)
    decayed, plain = parameter_groups(RIAEObjective(tiny, model, None), tiny.weight_decay)
    names = {id(each): name for name, each in model.named_parameters()}
    assert {"cls_token", "mask_token", "proj_weights"} <= {names[id(each)] for each in decayed["params"]}
    assert all(each.dim() == 1 for each in plain["params"])
    kernel = model.decoder_rb1.weight.detach()
    assert 0 < kernel.abs().max() < 27**-0.5 + 1e-6  # Kaiming's bound for 27 inputs
    assert new_riae(replace(tiny, recipe="pixel")).decoder_rb1.weight[0, 0, 1, 1] == 1


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
        ({"warmup_epochs": 40, "lr_cycles": 3}, "40 exceeds epochs 100 in 3 cycles"),
        ({"subsets": 5}, "subsets 5 is unknown; choose from 2, 3, 4"),
        ({"recipe": "best"}, "choose from code, release, paper, pixel"),
        ({"nodes": ("a",)}, "1 nodes but 0 lambdas"),
        ({"preset": "huge"}, "no RIAE preset"),
    ):
        with pytest.raises(InputError, match=word):
            TrainConfig(**values)  # type: ignore[arg-type]


def test_stage_adversarial_goes_on_gently() -> None:
    chosen = TrainConfig.for_preset("base", stage="adversarial")
    assert (chosen.epochs, chosen.warmup_epochs, chosen.learning_rate) == (15, 1, 2.5e-5)
    assert chosen.adversary == Adversary() and chosen.ema_decay == 0.99 and chosen.recipe == "code"
    tiny = TrainConfig.for_preset(
        "tiny", stage="adversarial", learning_rate=1.0, adversary=Adversary(steps=2)
    )
    assert (tiny.learning_rate, tiny.recipe) == (1.0, "pixel") and tiny.adversary == Adversary(steps=2)
    budgets = [Adversary(eps=(4, 8, 16)).eps_at(update / 9) for update in range(9)]
    assert budgets == [4, 4, 4, 8, 8, 8, 16, 16, 16]
