"""The time left: right within a factor of 1.5 from a tenth of a run on, whatever its attacks cost."""

import pytest
import torch

from impure.manifests.collection.shard_id import ShardId
from impure.manifests.collection.storage import Storage
from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.generation import time_left
from impure.pipeline.generation.events import (
    EventBuffer,
    ShardCommitted,
    ShardFailed,
    ShardProgress,
    ShardStarted,
    ShardTask,
)
from impure.pipeline.generation.forecast import likely_passes
from impure.pipeline.generation.run import GenerateConfig, Locations, in_working_order, open_run
from impure.pipeline.generation.time_left import BACKWARD, CHECKS, Costs, PassMeter, TimeLeft

#: Passes of a gradient.
GRADIENT = 1 + BACKWARD
#: Passes of an image in truth; DeepFool's as measured on the built-in target (46 gradients of 450,
#: nine to a forward pass).
TRUE_PASSES = {"fgsm": GRADIENT, "pgd": 10 * GRADIENT, "cw": 250 * GRADIENT, "deepfool": 46 * BACKWARD + 5}
#: A pass takes longer where images leave the batch.
SLOWER = {"deepfool": 1.4}
LIKELY = {name: likely_passes(AttackConfig(name=name)) for name in TRUE_PASSES}
BATCH = 8


class Simulation:
    """A run of given costs, on a clock of its own."""

    def __init__(self, monkeypatch, tasks, true_passes=TRUE_PASSES, overhead=0.0):
        self.now = 0.0
        self.true_passes = true_passes
        self.overhead = overhead
        monkeypatch.setattr(TimeLeft, "_now", lambda _: self.now)
        self.left = TimeLeft(tasks, Costs(LIKELY, BATCH, overhead))
        self.tasks = tasks
        self.foretold = []

    def spend(self, seconds):
        self.now += seconds
        self.foretold.append((self.now, self.left.seconds()))

    def run(self, seconds_of_a_pass=0.015, storing=0.03):
        for task in self.tasks:
            for shard_id in task.shard_ids:
                self.left(ShardStarted(shard_id))
                self._attack(shard_id, task.images, seconds_of_a_pass, storing)
                self.left(ShardCommitted(shard_id, {"planned": task.images}, 1.0, resumed=False))

    def _attack(self, shard_id, images, seconds_of_a_pass, storing):
        passes = calls = 0
        for start in range(0, images, BATCH):
            size = min(BATCH, images - start)
            for _ in range(self.true_passes[shard_id.attack] // GRADIENT):
                passes, calls = passes + GRADIENT * size, calls + GRADIENT
                full = size + self.overhead
                self.spend(GRADIENT * full * seconds_of_a_pass * SLOWER.get(shard_id.attack, 1))
                self.left(ShardProgress(shard_id, start, passes, calls))
            passes, calls = passes + CHECKS * size, calls + CHECKS
            self.spend(storing * size)
            self.left(ShardProgress(shard_id, start + size, passes, calls))

    def worst_factor(self):
        """How far off the time left is at worst, but for the first tenth and the last two seconds."""
        factors = [left / (self.now - now) for now, left in self.foretold
            if 0.1 * self.now <= now <= self.now - 2]  # fmt: skip
        return max(max(factor, 1 / factor) for factor in factors)


@pytest.mark.parametrize("shards", [1, 5])
@pytest.mark.parametrize("share", [0.4, 1, 3])
@pytest.mark.parametrize("overhead", [0, 10])
def test_the_time_left_is_within_a_factor_of_one_and_a_half(monkeypatch, shards, share, overhead):
    """However many steps of DeepFool an image takes: it comes first, so the end hangs on the others.

    With an overhead a pass of the last, smaller batch of a shard takes nearly as long as of a whole one.
    """
    attacks = in_working_order([AttackConfig(name=name) for name in TRUE_PASSES])
    names = tuple(attack.variant for attack in attacks)
    tasks = [ShardTask("t", "train", number, names, 10) for number in range(shards)]
    passes = TRUE_PASSES | {"deepfool": round(TRUE_PASSES["deepfool"] * share)}
    simulation = Simulation(monkeypatch, tasks, passes, overhead)
    simulation.run()
    assert simulation.worst_factor() < 1.5


def test_images_that_are_there_already_are_no_work(monkeypatch):
    tasks = [ShardTask("t", "train", number, ("fgsm", "cw"), 8) for number in range(3)]
    simulation = Simulation(monkeypatch, tasks)
    for shard_id in (*tasks[0].shard_ids, *tasks[1].shard_ids):
        simulation.left(ShardProgress(shard_id, 8))
        simulation.left(ShardCommitted(shard_id, {"planned": 8}, 0.0, resumed=True))
    assert simulation.left.seconds() is None
    simulation.tasks = tasks[2:]
    simulation.run()
    assert simulation.worst_factor() < 1.5


def test_attacks_of_unknown_length_are_made_first_in_every_shard(imagenet, card, calm):
    attacks = (
        None, AttackConfig(name="cw"), AttackConfig(name="deepfool"), AttackConfig(name="fgsm"),
        AttackConfig(name="pgd", overrides=(("early_stop", True),)),
    )  # fmt: skip
    locations = Locations(
        images=str(imagenet), labels=None, target=str(card), weights=None, root=calm, device="cpu", threads=1
    )
    config = GenerateConfig(
        attacks=attacks,
        splits=("train",),
        seed=0,
        batch_size=3,
        compiled=False,
        storage=Storage(),
        run_id="r",
    )
    tasks = open_run(locations).tasks(config)
    assert [task.attacks for task in tasks] == [("deepfool", "pgd", "clean", "cw", "fgsm")] * 4


def test_workers_elsewhere_that_report_at_the_end_of_a_task(monkeypatch):
    """As under Ray: the progress of a shard comes before its start, and nothing while it is made."""
    tasks = [ShardTask("t", "train", number, ("fgsm",), 8) for number in range(4)]
    simulation = Simulation(monkeypatch, tasks)
    buffer = EventBuffer()
    (shard_id,) = tasks[0].shard_ids
    for event in (
        ShardStarted(shard_id),
        ShardProgress(shard_id, 8, 40),
        ShardCommitted(shard_id, {"planned": 8}, 10.0, False),
    ):
        buffer(event)
    simulation.now = 10.0
    for event in buffer:
        simulation.left(event)
    assert simulation.left.seconds() == pytest.approx(30, rel=0.3)


def test_a_failed_shard_is_work_again(monkeypatch):
    task = ShardTask("t", "train", 0, ("fgsm",), 8)
    simulation = Simulation(monkeypatch, [task])
    (shard_id,) = task.shard_ids
    simulation.left(ShardStarted(shard_id))
    simulation.now = 4.0
    simulation.left(ShardProgress(shard_id, 4, 20))
    assert simulation.left.seconds() == pytest.approx(4)
    simulation.left(ShardFailed(shard_id, "broken"))
    simulation.left(ShardStarted(shard_id))
    simulation.now = 8.0
    simulation.left(ShardProgress(shard_id, 4, 20))
    assert simulation.left.seconds() == pytest.approx(8)  # half of the time was lost


def test_passes_are_counted_and_told_within_a_batch(monkeypatch):
    monkeypatch.setattr(time_left, "REPORT_SECONDS", 0.0)
    events = []
    meter = PassMeter(ShardId("t", "cw", "train", 0), events.append)
    model = meter.metered(lambda images: images.flatten(1) * 2)
    images = torch.rand(3, 1, 2, 2, requires_grad=True)
    with meter.attack():
        logits = model(images)
        for column in (0, 1):
            torch.autograd.grad(logits[:, column].sum(), images, retain_graph=True)
        with torch.no_grad():
            model(images.detach())
    meter.finish(3)
    told = [event.passes for event in events if isinstance(event, ShardProgress)]
    assert told[:-1] == sorted(told[:-1])
    assert told[-1] == 3 * (1 + 2 * BACKWARD + 1 + CHECKS)
    assert events[-1].images == 3
