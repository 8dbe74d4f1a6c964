"""Whatever mode a model is in, it is attacked in eval mode and left as it was."""

import pytest
import torch
from torch import nn

import impure
from impure.manifests.base.errors import InputError
from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.run_attack import attack_batch

IMAGES = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2])


def network():
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 4)
    )


class Auxiliary(nn.Module):
    """As Inception in training mode: logits and auxiliary logits."""

    def __init__(self, always):
        super().__init__()
        self.always = always
        self.network = network()

    def forward(self, images):
        logits = self.network(images)
        return (logits, logits) if self.training or self.always else logits


@pytest.mark.parametrize("name", ["fgsm", "pgd", "deepfool", "square"])
def test_a_model_in_training_mode_is_attacked_as_in_eval_mode_and_left_as_it_was(name):
    model = network().train()
    model[1].eval()  # frozen statistics, as in fine-tuning
    before = {key: value.clone() for key, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    settings = {"queries": 20} if name == "square" else {}
    adversarial = impure.attack(model, IMAGES, LABELS, name, **settings)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert [part.training for part in model.modules()] == [True, True, False, True, True, True]
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert torch.equal(adversarial, impure.attack(model.eval(), IMAGES, LABELS, name, **settings))


def test_the_modes_come_back_when_the_attack_breaks():
    model = network().train()
    with pytest.raises(InputError):
        impure.attack(model, IMAGES, LABELS + 5)
    config = AttackConfig(name="fgsm")
    with pytest.raises(RuntimeError):
        attack_batch(config, model, IMAGES[..., :4, :4].contiguous(), LABELS, list("abc"), 0)
    assert all(part.training for part in model.modules())


def test_a_model_with_auxiliary_outputs_in_training_mode_alone_is_attacked():
    model = Auxiliary(always=False).train()
    assert impure.attack(model, IMAGES, LABELS, "fgsm").shape == IMAGES.shape
    assert model.training


def test_a_tuple_instead_of_logits_is_refused_in_one_line():
    model = Auxiliary(always=True)
    message = r"must return logits \(N, classes\), this one returns tuple for \d images"
    with pytest.raises(InputError, match=message):
        impure.attack(model, IMAGES, LABELS, "fgsm")
    with pytest.raises(InputError, match=message):
        attack_batch(AttackConfig(name="fgsm"), model, IMAGES, LABELS, list("abc"), 0)
