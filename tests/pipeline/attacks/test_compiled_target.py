"""The compiled target: one shape, the same logits and gradients, each differentiated once."""

import pytest
import torch
from torch import nn

from impure.manifests.base.errors import InputError
from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.attack_registry import ATTACKS
from impure.pipeline.attacks.engine.compiled_target import CompiledTarget
from impure.pipeline.attacks.run_attack import attack_batch
from impure.pipeline.targets.load import load_target
from tests.pipeline.attacks.contract_table import quick

SIDE = 48


@pytest.fixture
def shapes(monkeypatch):
    """Compiling is instant; lists the shapes that the compiled network is given."""
    seen = []

    def compiled(module, **options):
        assert options == {"dynamic": False}
        return lambda images: seen.append((len(images), *images.stride())) or module(images)

    monkeypatch.setattr(torch, "compile", compiled)
    return seen


def random_images(count, device="cpu"):
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).to(device)


def logits_and_gradient(model, images):
    leaf = images.clone().requires_grad_()
    logits = model(leaf)
    return logits, torch.autograd.grad(logits.square().sum(), leaf)[0]


def test_it_sees_one_shape_and_gives_what_the_target_gives(shapes):
    target = load_target("builtin").double()
    compiled = CompiledTarget(target, 5, "fp32")
    assert not compiled.is_ready
    for count in (5, 2):
        images = random_images(count).double()
        for ours, its in zip(
            logits_and_gradient(compiled, images), logits_and_gradient(target, images), strict=True
        ):
            torch.testing.assert_close(ours, its)
    assert compiled.is_ready
    assert set(shapes) == {(5, 3 * SIDE * SIDE, 1, 3 * SIDE, 3)}, "one shape, channels last"
    with torch.no_grad():
        torch.testing.assert_close(compiled(images), target(images))


def test_a_pass_is_differentiated_once_and_before_the_next(shapes):
    compiled = CompiledTarget(load_target("builtin"), 2, "fp32")
    leaf = random_images(2).requires_grad_()
    total = compiled(leaf).sum()
    torch.autograd.grad(total, leaf, retain_graph=True)
    with pytest.raises(RuntimeError, match="once, before the next pass"):
        torch.autograd.grad(total, leaf)
    first = compiled(leaf).sum()
    compiled(leaf)
    with pytest.raises(RuntimeError, match="once, before the next pass"):
        torch.autograd.grad(first, leaf)


@pytest.mark.parametrize("name", [name for name in ATTACKS if quick(name).compilable])
def test_every_attack_that_may_gives_the_same_through_it(name, shapes):
    target = load_target("builtin").double()
    clean = (random_images(3) * 255).to(torch.uint8)
    labels = target(clean.double() / 255).argmax(1)
    plain, through = (
        attack_batch(quick(name, eps_255=2), target, clean, labels, list("abc"), 0, compiled=form)
        for form in (None, CompiledTarget(target, 3, "fp32"))
    )
    assert torch.equal(through.adversarial, plain.adversarial)
    assert len(set(shapes)) == 1


def test_who_differentiates_a_pass_several_times_is_not_compiled():
    assert not AttackConfig(name="deepfool").compilable
    assert not AttackConfig(name="pgd", implementation="torchattacks").compilable
    assert AttackConfig(name="pgd").compilable


def test_what_cannot_be_compiled_says_so(monkeypatch):
    def no_compiler(*_, **__):
        raise RuntimeError("no C++ compiler\nmore")

    monkeypatch.setattr(torch, "compile", no_compiler)
    with pytest.raises(InputError, match=r"'builtin' cannot be compiled \(no C\+\+ compiler\); leave out"):
        CompiledTarget(load_target("builtin"), 2, "fp32").compile()


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore")  # of PyTorch's own compiler
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_graphs_on_a_gpu_give_the_same(precision):
    target = load_target("builtin").cuda()
    compiled = CompiledTarget(target, 8, precision)
    for count in (8, 3, 8):
        images = random_images(count, "cuda")
        for ours, its in zip(
            logits_and_gradient(compiled, images), logits_and_gradient(target, images), strict=True
        ):
            assert nn.functional.cosine_similarity(ours.flatten(), its.flatten(), dim=0) > 0.99
