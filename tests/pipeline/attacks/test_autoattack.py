"""AutoAttack, and its agreement with Torchattacks' on a target trained to resist somewhat."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.engine.threat_model import Proposal, grad_evals_of
from impure.pipeline.attacks.methods.autoattack import AutoAttack
from impure.pipeline.attacks.run_attack import attack_batch
from impure.pipeline.builtin.drawing import CLASSES, render
from impure.pipeline.targets.load import load_target
from impure.pipeline.targets.target import Target

EPS_255 = 8
TRAINED_AT = 8 / 255


def pictures(split, count):
    scenes = [(label, index) for index in range(count) for label in range(len(CLASSES))]
    drawn = np.stack([render(split, CLASSES[label], index, 48) for label, index in scenes])
    return torch.from_numpy(drawn).permute(0, 3, 1, 2) / 255, torch.tensor([label for label, _ in scenes])


def attacked_while_training(target, images, labels):
    """Two signed steps from a random start (Madry 2018)."""
    target.eval()
    move = (torch.rand_like(images) * 2 - 1) * TRAINED_AT
    for _ in range(2):
        leaf = (images + move).clamp(0, 1).requires_grad_()
        (slope,) = torch.autograd.grad(cross_entropy(target(leaf), labels), leaf)
        move = (move + 0.75 * TRAINED_AT * slope.sign()).clamp(-TRAINED_AT, TRAINED_AT)
    target.train()
    return (images + move).clamp(0, 1)


@pytest.fixture(scope="module")
def resisting() -> Target:
    """The built-in target after twelve epochs of adversarial training on 600 pictures: half a minute."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        target, (images, labels) = load_target("builtin").requires_grad_(True), pictures("train", 60)
        epochs, batches = 12, len(images) // 64
        optimizer = torch.optim.AdamW(target.parameters(), lr=3e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=epochs * batches + 1)
        for _ in range(epochs):
            for batch in torch.randperm(len(images))[: batches * 64].split(64):
                adversarial = attacked_while_training(target, images[batch], labels[batch])
                optimizer.zero_grad()
                cross_entropy(target(adversarial), labels[batch]).backward()
                optimizer.step()
                schedule.step()
    return target.eval().requires_grad_(False)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_autoattack_agrees_with_torchattacks_within_one_image_in_100(resisting):
    images, labels = pictures("val", 14)
    known = (resisting(images).argmax(1) == labels).nonzero().flatten()[:100]
    assert len(known) == 100
    clean, labels, ids = (
        (images[known] * 255).round().to(torch.uint8),
        labels[known],
        list(map(str, known.tolist())),
    )
    ours = AttackConfig(name="autoattack", preset="library", eps_255=EPS_255)
    stand = []
    for config in (ours, replace(ours, implementation="torchattacks")):
        attacked = attack_batch(config, resisting, clean, labels, ids, 0)
        stand.append(resisting(attacked.adversarial / 255).argmax(1) == labels)
    assert 10 <= stand[1].sum() <= 60
    assert abs(int(stand[0].sum()) - int(stand[1].sum())) <= 1
    assert (stand[0] != stand[1]).sum() <= 1


def test_each_part_gets_what_those_before_left(convolutional, monkeypatch):
    seen = []

    def part(name, wins):
        class MicroBatch:
            def propose(self, problem):
                seen.append((name, problem.rng.attack, len(problem.clean)))
                images = problem.clean.clone()
                images[:wins] = fooled[len(fooled) - len(images) :][:wins]
                return Proposal(images=images, grad_evals=grad_evals_of(problem, 1))

        return MicroBatch()

    whole = convolutional.attack(AttackConfig(name="pgd", eps_255=128))
    wrong = (convolutional.stored_predictions(whole) != convolutional.labels).nonzero().flatten()
    batch = convolutional.select(*wrong.tolist())
    fooled = whole.adversarial[wrong].double() / 255
    assert len(fooled) >= 3
    parts = {"one": part("one", 1), "two": part("two", 0), "three": part("three", 2)}
    monkeypatch.setattr(AutoAttack, "parts", lambda _: parts)
    proposal = AutoAttack(steps=1, target_classes=1, queries=1).propose(batch.problem("autoattack", 128))
    size = len(fooled)
    assert seen == [
        ("one", "autoattack/one", size),
        ("two", "autoattack/two", size - 1),
        ("three", "autoattack/three", size - 1),
    ]
    assert proposal.grad_evals.tolist() == [1] + [3] * (size - 1)


def test_the_standard_parts_in_the_standard_order():
    attack = AttackConfig(name="autoattack").build()
    assert list(attack.parts()) == ["apgd-ce", "apgd-t", "fab-t", "square"]
    assert attack.parts()["apgd-ce"].steps == attack.parts()["fab-t"].steps == 100
    assert attack.parts()["square"].queries == 5000
