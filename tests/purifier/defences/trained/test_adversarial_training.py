"""Adversarial training: images of the engine's PGD against the present weights, and their cross-entropy."""

import pytest
import torch

from impure.manifests.base.canonical_json import canonical_json, plain
from impure.manifests.base.errors import InputError
from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.run_attack import attack_batch
from impure.pipeline.targets.load import load_target
from impure.pipeline.tensors import to_float, to_uint8
from impure.purifier.defences.trained.adversarial_training import AdversarialTraining, RobustClassifier
from impure.purifier.defences.trained.base.trainable import TrainingImages


def training_images(labels: tuple[int, ...] = (4, 0, 2)) -> TrainingImages:
    clean = torch.randint(256, (2, 3, 48, 48), generator=torch.Generator().manual_seed(0)) / 255
    rows = torch.tensor([1, 0, 1])
    return TrainingImages(clean[rows], clean, rows, torch.tensor(labels))


@pytest.fixture(scope="module")
def network() -> RobustClassifier:
    return RobustClassifier.begin({"eps": 8, "steps": 2, "alpha": 2.0}, load_target("builtin"))


def test_it_begins_as_the_target(network: RobustClassifier) -> None:
    images, target = training_images().clean, load_target("builtin")
    with torch.no_grad():
        defence = AdversarialTraining(network)
        assert torch.equal(defence(images), images)
        assert torch.allclose(defence.classify(images, torch.neg), target(images), atol=1e-5)


def test_loss_is_the_cross_entropy_of_the_engines_pgd_images(network: RobustClassifier) -> None:
    images = training_images()
    network.train()
    statistics = network.classifier.network.state_dict()["stem.bn.running_mean"].clone()
    attacked = network.attacked(images, torch.Generator().manual_seed(5))
    assert network.training and torch.equal(
        network.classifier.network.state_dict()["stem.bn.running_mean"], statistics
    )
    seed = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(5)))
    config = AttackConfig(name="pgd", eps_255=8, overrides=(("steps", 2), ("alpha_255", 2.0)))
    clean = images.clean[images.clean_row]
    target = load_target("builtin")
    wanted = attack_batch(config, target, to_uint8(clean), images.labels, ["0", "1", "2"], seed)
    assert (attacked != clean).any() and ((attacked - clean).abs() <= 8 / 255 + 1e-6).all()
    assert (attacked == to_float(wanted.adversarial)).double().mean() > 0.99  # other rounding of one sum
    network.double().eval()
    (loss,) = network.losses(images, torch.Generator().manual_seed(5), None)
    with torch.no_grad():
        logits = network(network.attacked(images, torch.Generator().manual_seed(5)).double()).numpy()
    network.float()
    exponentials = torch.from_numpy(logits).exp().numpy()
    chosen = [exponentials[row, label] / exponentials[row].sum() for row, label in enumerate((4, 0, 2))]
    assert loss.item() == pytest.approx(-sum(torch.tensor(chosen).log().tolist()) / 3, rel=1e-9)


def test_every_weight_gets_a_gradient_in_bfloat16(network: RobustClassifier) -> None:
    """Autocast keeps rounded weights: those of the attack's passes serve the loss as well."""
    with torch.autocast("cpu", torch.bfloat16):
        network.train().losses(training_images(), torch.Generator(), None).sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in network.parameters())
    network.zero_grad()


def test_photographs_without_labels_are_refused(network: RobustClassifier) -> None:
    with pytest.raises(InputError, match="needs labels; train on shards"):
        network.losses(training_images((-1, 0, 2)), torch.Generator(), None)


def test_a_card_decides_the_architecture() -> None:
    card = load_target("builtin").card
    with torch.device("meta"):
        network = RobustClassifier(card=canonical_json(card))
    assert sum(weight.numel() for weight in network.parameters()) == 202_426
    unknown = canonical_json({**plain(card), "architecture": "timm:none"})
    for text, message in (("{}", "missing"), ("no card", "not a readable JSON"), (unknown, "timm:none")):
        with pytest.raises(InputError, match=message):
            RobustClassifier(card=text)
