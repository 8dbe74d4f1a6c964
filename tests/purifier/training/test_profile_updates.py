import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from impure.manifests.base.errors import WriteError
from impure.manifests.collection.collection import CommittedShard
from impure.purifier.training import profile_updates as module
from impure.purifier.training.data_source import PairSource
from impure.purifier.training.distributed import Ranks
from impure.purifier.training.profile_updates import UpdateProfile, profile_updates
from impure.purifier.training.runtime_options import RuntimeOptions
from tests.purifier.training.test_trainer import config, small_preset

__all__ = ["small_preset"]  # a fixture

CPU = torch.device("cpu")


def profiled(shards: list[CommittedShard], trace: Path) -> UpdateProfile:
    return profile_updates(
        config(), PairSource(shards), None, trace, CPU, runtime=RuntimeOptions(cache="ram"), ranks=Ranks()
    )


def test_operations_are_ranked_and_a_trace_is_left(
    tmp_path: Path, shards: list[CommittedShard], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WARM_UP", "TIMED", "RECORDED"):
        monkeypatch.setattr(module, name, 1)
    found = profiled(shards, tmp_path / "folder" / "trace.json")
    assert found.milliseconds > 0 and 0 < found.waiting < 1 and found.busy is None and not found.kernels
    assert found.images_per_second == pytest.approx(1000 / found.milliseconds * 5, rel=0.2)  # batches of 4, 5
    costs = found.operations
    assert len(costs) == module.SHOWN and sum(cost.share for cost in costs) < 1
    assert [cost.milliseconds for cost in costs] == sorted(
        (cost.milliseconds for cost in costs), reverse=True
    )
    assert {"aten::addmm", "aten::mm"} < {cost.name for cost in costs}
    assert json.loads((tmp_path / "folder" / "trace.json").read_text())["traceEvents"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "trace.json"]


def test_a_trace_that_cannot_be_written_is_refused_at_once(
    tmp_path: Path, shards: list[CommittedShard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TrainStep", None)
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=r"trace\.json: cannot be written"):
        profiled(shards, tmp_path / "file" / "trace.json")


def event(key: str, where: str, microseconds: float, *, annotation: bool = False) -> SimpleNamespace:
    return SimpleNamespace(
        key=key, device_type=SimpleNamespace(name=where), is_user_annotation=annotation, count=4,
        self_device_time_total=microseconds, self_cpu_time_total=1.0,
    )  # fmt: skip


def test_on_a_gpu_neither_annotations_nor_the_profilers_own_events_count() -> None:
    events = [
        event("nvjet", "CUDA", 1000.0),
        event("layer_norm", "CUDA", 3000.0),
        event("Optimizer.step#AdamW.step", "CUDA", 9000.0, annotation=True),
        event("aten::mm", "CPU", 1000.0),
        event("aten::view", "CPU", 0.0),
        event("Command Buffer Full", "CPU", 9000.0),
    ]
    profiler = SimpleNamespace(key_averages=lambda: events)
    kernels, operations = module._costs(profiler, torch.device("cuda"))
    assert [(cost.name, cost.calls, cost.milliseconds, cost.share) for cost in kernels] == [
        ("layer_norm", 2, 1.5, 0.75),
        ("nvjet", 2, 0.5, 0.25),
    ]
    assert [cost.name for cost in operations] == ["aten::mm"]
