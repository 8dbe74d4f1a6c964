"""Batch size and memory format are measured on the target, and frozen."""

from types import SimpleNamespace

import pytest
import torch

from impure.manifests.base.errors import InputError
from impure.manifests.collection.collection import Collection
from impure.pipeline.commands import sample_arguments
from impure.pipeline.generation import attack_batches, batch_size
from impure.pipeline.generation.attack_job import AttackJob
from impure.pipeline.generation.batch_size import (
    batch_overhead,
    fastest_batch_size,
    fastest_memory_formats,
    seconds_per_gradient,
)
from impure.pipeline.generation.sample_config import SampleConfig
from impure.pipeline.targets.load import load_target
from tests.pipeline.generation.small_run import arguments

ALL_LAST = {"fp32": "channels_last", "tf32": "channels_last", "bf16": "channels_last"}
MIXED = {"fp32": "contiguous", "tf32": "channels_last", "bf16": "channels_last"}


class OnGpu:
    """Stands for a target on a GPU: records how it was laid out."""

    def __init__(self):
        self.mean = SimpleNamespace(is_cuda=True)
        self.layouts = []

    def lay_out(self, memory_format):
        self.layouts.append(memory_format)


@pytest.fixture(scope="module")
def target(card):
    return load_target(str(card))


def is_contiguous(target, memory_format):
    weights = [p for p in target.network.parameters() if p.dim() == 4 and p.shape[1] > 1 and p.shape[2] > 1]
    assert weights
    return all(weight.is_contiguous(memory_format=memory_format) for weight in weights)


def test_each_precision_gets_its_faster_memory_format(monkeypatch):
    gpu = OnGpu()

    def seconds(target, size, precision):
        return {"fp32": 3, "tf32": 1, "bf16": 1}[precision] + (target.layouts[-1] == "contiguous")

    monkeypatch.setattr(batch_size, "_fitting", lambda target: 256)
    monkeypatch.setattr(batch_size, "seconds_per_gradient", seconds)
    assert fastest_memory_formats(gpu) == ALL_LAST
    monkeypatch.setattr(
        batch_size, "seconds_per_gradient",
        lambda *given: seconds(*given) if given[2] != "fp32" else -seconds(*given),
    )  # fmt: skip
    assert fastest_memory_formats(gpu) == MIXED
    assert gpu.layouts[-1] == "contiguous"


@pytest.mark.parametrize(
    ("fitting", "per_image", "expected"),
    [
        (256, {16: 8, 32: 4, 64: 3, 128: 2.9, 256: 1}, 64),
        (256, {16: 8, 32: 7, 64: 6, 128: 5, 256: 4}, 256),
        (64, {16: 8, 32: 7, 64: 6}, 64),
        (8, {8: 1}, 8),
        (256, {16: 1, 32: 1}, 16),
    ],
)
def test_a_batch_grows_as_long_as_that_is_faster_and_fits(fitting, per_image, expected, monkeypatch):
    monkeypatch.setattr(batch_size, "_fitting", lambda target: fitting)
    monkeypatch.setattr(batch_size, "seconds_per_gradient", lambda target, size: per_image[size])
    assert fastest_batch_size(OnGpu()) == expected


def test_nothing_is_measured_on_a_cpu(target, monkeypatch):
    monkeypatch.delattr(batch_size, "seconds_per_gradient")
    assert fastest_memory_formats(target) == ALL_LAST
    assert fastest_batch_size(target) == 32


def test_gradients_are_timed_in_any_precision_and_format(target):
    for memory_format in ("contiguous", "channels_last"):
        target.lay_out(memory_format)
        assert is_contiguous(target, target.memory_format)
        assert all(seconds_per_gradient(target, 2, precision) > 0 for precision in ("fp32", "bf16"))


def test_there_are_two_memory_formats(target):
    with pytest.raises(InputError, match="'rows' is none of channels_last, contiguous"):
        target.lay_out("rows")


def test_a_sample_says_a_format_for_each_precision():
    with pytest.raises(InputError, match="one for each of fp32, tf32, bf16"):
        SampleConfig(split="val", per_class=1, memory_formats={"fp32": "contiguous"})


def test_the_format_is_frozen_with_the_plan_and_recorded(imagenet, card, run, tmp_path, monkeypatch):
    seen, attack_batch = [], attack_batches.attack_batch

    def watched(config, model, clean, *others, **more):
        seen.append((clean.is_contiguous(), is_contiguous(model, torch.contiguous_format)))
        return attack_batch(config, model, clean, *others, **more)

    monkeypatch.setattr(attack_batches, "attack_batch", watched)
    monkeypatch.setattr(sample_arguments, "fastest_memory_formats", lambda target: MIXED)
    assert run("data", *arguments(imagenet, card, tmp_path)).exit_code == 0
    collection = Collection(tmp_path)
    (plan,) = collection.plans().values()
    assert plan.config["memory_formats"] == MIXED
    assert {shard.marker["config"]["memory_format"] for shard in collection.readable()} == {"contiguous"}
    assert seen
    assert all(map(all, seen))
    monkeypatch.setattr(sample_arguments, "fastest_memory_formats", lambda target: 1 / 0)
    assert run("data", *arguments(imagenet, card, tmp_path)).exit_code == 0
    replayed = run("data", "verify", tmp_path, "--level", "replay", "--again", "--target", card)
    assert replayed.exit_code == 0, replayed.output


@pytest.mark.parametrize("formats", [3, {}, {"fp32": []}, {"fp32": "upside-down"}])
def test_a_plan_without_formats_is_refused(formats):
    plan = SimpleNamespace(config={"memory_formats": formats}, path="plan.parquet")
    with pytest.raises(InputError, match=r"plan\.parquet: says no memory format for fp32"):
        AttackJob.memory_format.fget(SimpleNamespace(plan=plan, attack=None))


@pytest.mark.parametrize(("call", "image", "overhead"), [(3, 1, 3), (0, 2, 0), (5, 0, 32)])
def test_the_overhead_of_a_batch_is_counted_in_images(monkeypatch, call, image, overhead):
    """A pass takes so many seconds a call and so many an image, also of a target that has no gradient."""
    clock = [0.0]
    monkeypatch.setattr(batch_size, "time", SimpleNamespace(perf_counter=lambda: clock[0]))

    class Clocked(SimpleNamespace):
        def __call__(self, images):
            clock[0] += call + image * len(images)
            return torch.zeros(len(images), 2)

    target = Clocked(mean=torch.zeros(1), card=SimpleNamespace(crop=4), memory_format=torch.contiguous_format)
    assert batch_overhead(target, 32) == pytest.approx(overhead)
    assert batch_overhead(target, 1) == 0
