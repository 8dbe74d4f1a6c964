"""DeepFool's gradients of all rivals in one batched product: the same as one after the other."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from impure.pipeline.attacks.methods import deepfool
from impure.pipeline.attacks.methods.deepfool import ForwardPass, nearest_boundary, products_at_once
from tests.pipeline.attacks.contract_table import quick


def deep(batch):
    """The operations of usual networks: convolutions in groups, batch statistics, pooling, gates."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        layers = (
            nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(), nn.MaxPool2d(3, 2),
            nn.Conv2d(8, 8, 3, groups=8), nn.SiLU(), nn.Conv2d(8, 16, 1), nn.Hardswish(), nn.GELU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.LayerNorm(64), nn.Linear(64, 10),
        )  # fmt: skip
    model = nn.Sequential(*layers).double().eval().requires_grad_(False)
    return replace(batch, model=model, labels=model(batch.clean.double() / 255).argmax(1))


@pytest.mark.parametrize("together", [2, 4, 9, 100])
def test_a_batched_product_equals_the_loop(together, convolutional):
    batch = deep(convolutional)
    problem = batch.problem("deepfool")
    rivals = problem.model(problem.clean).topk(10, dim=1).indices[:, 1:]
    steps = [
        nearest_boundary(
            ForwardPass.at(problem, problem.clean), problem.labels, rivals, torch.zeros(5).double(), count
        )
        for count in (1, together)
    ]
    assert steps[0].flatten(1).norm(dim=1).min() > 0
    torch.testing.assert_close(steps[1], steps[0], rtol=1e-9, atol=1e-12)


def test_the_whole_attack_is_the_same(convolutional, monkeypatch):
    attack = quick("deepfool").build()
    one_by_one = attack.propose(convolutional.problem("deepfool"))
    monkeypatch.setattr(deepfool, "products_at_once", lambda problem: 5)
    together = attack.propose(convolutional.problem("deepfool"))
    torch.testing.assert_close(together.images, one_by_one.images, rtol=0, atol=1e-9)
    assert torch.equal(together.grad_evals, one_by_one.grad_evals)


def test_how_many_at_once(convolutional):
    problem = convolutional.problem("deepfool")
    assert products_at_once(problem) == 1
    on_gpu = replace(problem, clean=torch.empty(64, 3, 1, 1, device="meta"))
    assert products_at_once(on_gpu) == 16
    assert products_at_once(replace(on_gpu, clean=torch.empty(2000, 3, 1, 1, device="meta"))) == 1
    assert products_at_once(replace(on_gpu, batched_gradients=False)) == 1
