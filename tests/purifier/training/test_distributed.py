"""What ranks do together: two processes in earnest, and an update of two ranks acted by one."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from impure.purifier.riae import riae_config as presets
from impure.purifier.riae.model import RIAE
from impure.purifier.riae.riae_config import RIAEConfig
from impure.purifier.training import distributed
from impure.purifier.training.distributed import Ranks
from impure.purifier.training.objectives.riae_objective import RIAEObjective
from impure.purifier.training.train_config import TrainConfig
from impure.purifier.training.train_step import TrainStep
from tests.purifier.conftest import SMALL
from tests.purifier.training.test_train_step import batch

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[3]
RANK = "import sys; from tests.purifier.training.two_ranks import work_as; print(work_as(int(sys.argv[1])))"


def free_port() -> str:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return str(bound.getsockname()[1])


@pytest.mark.slow
def test_two_processes_average_gradients_and_agree() -> None:
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank)], cwd=ROOT, env={**os.environ, **address}, text=True,
            stdout=subprocess.PIPE,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        results = [process.communicate(timeout=100)[0].strip() for process in running]
    finally:
        for process in running:
            process.kill()  # one whose partner has died would wait for an hour
    assert results == [  # gradients: the mean of 1 and 3; choices: the main rank's count
        str((2.0, [3.0, 20.0], [True, False], True)),
        str((2.0, [3.0, 20.0], [True, False], False)),
    ]


def test_gradients_are_exchanged_by_ddp_where_there_are_several_ranks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        distributed, "DistributedDataParallel", lambda model, **options: ("ddp", model, options)
    )
    model = nn.Linear(1, 1)
    assert Ranks().wrap(model) is model
    wrapped, inner, options = Ranks(rank=1, world=2).wrap(model)  # type: ignore[misc]
    assert (wrapped, inner, options["broadcast_buffers"]) == ("ddp", model, False)


class ActedRanks(Ranks):
    """A rank whose partners are acted by the test: nothing is sent."""

    def wrap(self, model: nn.Module) -> nn.Module:
        return model


def gradients(step: TrainStep) -> Tensor:
    return torch.cat([each.grad.flatten() for each in step.model.parameters() if each.grad is not None])


@pytest.mark.parametrize("sizes", [(3, 3), (4, 2)])
def test_the_mean_over_ranks_is_the_gradient_of_the_whole_batch(
    monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, int]
) -> None:
    """DDP takes the mean over ranks, so each rank's loss has to be multiplied by their number."""
    monkeypatch.setitem(presets.PRESETS, "tiny", RIAEConfig(**SMALL))  # type: ignore[arg-type]

    def step_of(ranks: Ranks, **values: int) -> TrainStep:
        config = TrainConfig(preset="tiny", recipe="pixel", mask="occlusion", **values)  # type: ignore[arg-type]
        torch.manual_seed(0)
        return TrainStep(config, RIAEObjective(config, RIAE(config.riae()), None), CPU, ranks)

    six = batch()
    halves = [
        six._replace(
            adversarial=six.adversarial[start:stop],
            clean_row=six.clean_row[start:stop],
            weight=(stop - start) / 6,
        )
        for start, stop in ((0, sizes[0]), (sizes[0], 6))
    ]
    whole = step_of(Ranks(), grad_accum=2)  # two micro-batches draw what two ranks draw
    whole_losses = whole.update(halves, 0, 0.0)
    ranks = [step_of(ActedRanks(rank=rank, world=2)) for rank in range(2)]
    losses = [step.update([half], 0, 0.0) for step, half in zip(ranks, halves, strict=True)]
    assert torch.allclose(sum(losses, torch.zeros(3)), whole_losses, atol=1e-6)
    mean = torch.stack([gradients(step) for step in ranks]).mean(0)
    assert gradients(whole).abs().max() > 1e-3
    assert torch.allclose(mean, gradients(whole), atol=1e-6)
