from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from impure.manifests.base.errors import InputError
from impure.purifier.data.dataset import Batch
from impure.purifier.defences.trained.base.trainable import TrainingImages
from impure.purifier.losses.rcm import combine
from impure.purifier.riae import riae_config as presets
from impure.purifier.riae.model import RIAE
from impure.purifier.riae.noise import Randomness, draw_for_test
from impure.purifier.riae.riae_config import RIAEConfig
from impure.purifier.training.distributed import Ranks
from impure.purifier.training.objectives.riae_objective import RIAEObjective
from impure.purifier.training.train_config import TrainConfig
from impure.purifier.training.train_step import TrainStep
from tests.purifier.conftest import SMALL

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(presets.PRESETS, "tiny", RIAEConfig(**SMALL))  # type: ignore[arg-type]


def train_step(**values: Any) -> TrainStep:
    config = TrainConfig(preset="tiny", recipe="pixel", mask="occlusion", **values)
    torch.manual_seed(0)
    return TrainStep(config, RIAEObjective(config, RIAE(config.riae()), None), CPU)


def batch(count: int = 6, weight: float = 1.0, seed: int = 0) -> Batch:
    """Pairs of two attacked variants of each clean image."""
    rng = Generator().manual_seed(seed)
    levels = torch.randint(0, 256, (count + count // 2, 3, 16, 16), generator=rng).byte()
    return Batch(levels[:count], levels[count:], torch.arange(count) // 2, weight, torch.arange(count) % 3)


def weights(model: torch.nn.Module) -> Tensor:
    return torch.cat([each.detach().flatten() for each in model.parameters()])


def test_parts_add_up_to_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for every sample, whatever the micro-batch: no crop, the test's partition, no noise."""

    def alike(self: RIAE, images: Tensor, generator: Generator, **_: object) -> Randomness:
        return draw_for_test(self.config, images, generator)

    monkeypatch.setattr(RIAE, "draw_training", alike)
    whole, micro_batches = train_step(), train_step(grad_accum=2)
    six = batch()
    first = Batch(six.adversarial[:4], six.clean[:2], six.clean_row[:4], 4 / 6, six.labels[:4])
    second = Batch(six.adversarial[4:], six.clean[2:], six.clean_row[4:] - 2, 2 / 6, six.labels[4:])
    losses = whole.update([six], 0, 1e-2), micro_batches.update([first, second], 0, 1e-2)
    assert torch.allclose(*losses, atol=1e-6)
    gradients = [
        torch.cat([each.grad.flatten() for each in one.model.parameters() if each.grad is not None])
        for one in (whole, micro_batches)
    ]
    assert (gradients[0] - gradients[1]).abs().max() < 1e-6


def test_draws_depend_on_seed_and_step_alone() -> None:
    one, other = train_step(), train_step()
    other.update([batch(seed=5)], 0, 0.0)  # no learning, but draws
    assert torch.equal(one.update([batch()], 7, 0.0), other.update([batch()], 7, 0.0))
    assert not torch.equal(one.update([batch()], 7, 0.0), one.update([batch()], 8, 0.0))


def test_crops_of_variants_are_the_same_window() -> None:
    one = train_step(crop=8)
    six = batch()
    same = Batch(six.clean[six.clean_row], six.clean, six.clean_row, 1.0, six.labels)
    adversarial, clean, clean_row, labels = one.crop(same)
    assert torch.equal(labels, six.labels)
    assert adversarial.shape == (6, 3, 8, 8) and clean.shape == (3, 3, 8, 8)
    assert torch.equal(adversarial, clean[clean_row]) and adversarial.max() <= 1


@pytest.mark.parametrize("recipe", ["code", "paper", "release"])
def test_losses_are_those_of_the_paper(recipe: str) -> None:
    """Eqs. 10 to 15 written out, with the same draws in the same order."""
    torch.manual_seed(0)
    features = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
    config = TrainConfig(preset="tiny", recipe=recipe, nodes=("0", "1"), lambdas=(3.0, 0.5))
    one = TrainStep(config, RIAEObjective(config, RIAE(config.riae()), deepcopy(features)), CPU)
    six = batch()
    adversarial, clean, rows = six.adversarial / 255, six.clean / 255, six.clean_row
    one.generator.manual_seed(4)
    found = one.losses(TrainingImages(adversarial, clean, rows, six.labels))
    again, model, channels = Generator().manual_seed(4), one.model, recipe == "paper"
    with torch.no_grad():
        draws = model.draw_training(adversarial, again, steps_per_subset=recipe == "release")
        output = model(adversarial, draws)
        pixel = (output - model.normalise(clean[rows])).abs().mean() * (3 if channels else 1)
        mixed = combine(model.denormalise(output), adversarial, 4, recipe, again)  # type: ignore[arg-type]
        perceptual = torch.zeros(())
        for node, weight in ((0, 3.0), (1, 0.5)):
            made, wanted = (features[: node + 1](each) for each in (mixed, clean[rows]))
            perceptual = perceptual + weight * (made - wanted).abs().mean() * (4 if channels else 1)
    assert torch.allclose(found, torch.stack([pixel + perceptual, pixel, perceptual]), rtol=1e-5)


def test_parts_and_ranks_draw_differently_and_alike() -> None:
    one, two = train_step(grad_accum=2), train_step(grad_accum=1)
    two.ranks = Ranks(rank=1, world=2)
    drawn = []
    for each, micro_batch in ((one, 0), (one, 1), (two, 0)):
        each._reseed(3, micro_batch)
        drawn.append(torch.rand(4, generator=each.generator))
    assert not torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[1], drawn[2])


def test_optimiser_is_the_papers() -> None:
    one = train_step()
    assert isinstance(one.optimizer, torch.optim.AdamW)
    assert {group["betas"] for group in one.optimizer.param_groups} == {(0.9, 0.95)}


def test_average_is_the_exponential_one() -> None:
    one = train_step(ema_decay=0.75)
    assert one.ema_model is not None and one.export_model is one.ema_model
    seen = []
    for step in range(3):
        one.update([batch(seed=step)], step, 1e-2)
        seen.append(weights(one.model))
    wanted = seen[0]  # it begins with the first
    for each in seen[1:]:
        wanted = 0.75 * wanted + 0.25 * each
    assert torch.allclose(weights(one.export_model), wanted, atol=1e-6)
    assert not torch.allclose(wanted, seen[-1], atol=1e-4)


def test_clipping_bounds_the_gradient() -> None:
    one = train_step(clip_grad=1e-3)
    one.update([batch()], 0, 1e-2)
    norm = torch.cat([each.grad.flatten() for each in one.model.parameters() if each.grad is not None]).norm()
    assert norm == pytest.approx(1e-3, rel=1e-3)


def test_the_optimiser_sees_the_clipped_gradient_of_this_update_alone() -> None:
    """AdamW's first moment after two updates is 0.1 of the clipped gradients, the first decayed by 0.9."""
    one = train_step(clip_grad=1e-3)
    gradients = []
    for step in range(2):
        one.update([batch(seed=step)], step, 0.0)
        gradients.append(
            [None if each.grad is None else each.grad.clone() for each in one.model.parameters()]
        )
    for weight, first, second in zip(one.model.parameters(), *gradients, strict=True):
        if first is not None and second is not None:
            moment = one.optimizer.state[weight]["exp_avg"]
            assert torch.allclose(moment, 0.1 * (0.9 * first + second), atol=1e-9)


def test_state_brings_everything_back() -> None:
    one, other = train_step(ema_decay=0.5), train_step(ema_decay=0.5)
    one.update([batch()], 0, 1e-2)
    other.load(deepcopy(one.state()), "run")
    for each in (one, other):
        each.update([batch(seed=1)], 1, 1e-2)
    assert torch.equal(weights(one.model), weights(other.model))
    assert torch.equal(weights(one.export_model), weights(other.export_model))


def test_bf16_learns_the_same_within_its_precision() -> None:
    full, half = train_step(), train_step(bf16=True)
    losses = full.update([batch()], 0, 1e-3), half.update([batch()], 0, 1e-3)
    assert losses[1].dtype == torch.float32
    assert torch.allclose(*losses, rtol=0.02) and not torch.equal(*losses)
    assert half.model.decoder_pred.weight.dtype == torch.float32


def test_each_new_size_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda network, **_: network)
    one = train_step(compiled=True)
    micro_batches = [batch(), batch(count=4)]
    assert [one.will_compile(micro_batches[:1]), one.will_compile(micro_batches)] == [True, True]
    assert not one.will_compile(micro_batches) and not train_step().will_compile(micro_batches)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # the C++ compiler's
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_compiled_learns_the_same() -> None:
    """With sizes of images and lengths of batches that change."""
    plain, compiled = train_step(), train_step(compiled=True)
    for step, (count, side) in enumerate(((6, 16), (4, 24))):
        found = batch(count)
        images = [torch.nn.functional.interpolate(each, size=side) for each in found[:2]]
        micro_batch = found._replace(adversarial=images[0], clean=images[1])
        losses = [one.update([micro_batch], step, 1e-3) for one in (plain, compiled)]
        assert torch.allclose(*losses, rtol=1e-3)
    assert (weights(plain.model) - weights(compiled.model)).abs().max() < 4.1e-3  # AdamW: lr times the sign


def test_what_cannot_be_compiled_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(*_: object, **__: object) -> object:
        def fails(*_: object) -> None:
            raise torch._dynamo.exc.TorchDynamoException("no C++ compiler\nmore")

        return fails

    monkeypatch.setattr(torch, "compile", no_compiler)
    with pytest.raises(InputError, match=r"RIAE cannot be compiled here \(no C\+\+ compiler\); leave out"):
        train_step(compiled=True).update([batch()], 0, 1e-2)
