"""Shards as tasks of a Ray cluster; workers keep the network between them."""

from collections.abc import Callable
from functools import lru_cache
from pickle import dumps, loads
from typing import Any

import torch

from impure.manifests.base.errors import InputError, first_line
from impure.pipeline.executors.task_queue import TaskQueue
from impure.pipeline.generation.events import Event, EventBuffer, ShardTask
from impure.pipeline.generation.worker import ShardWorker


def run_ray(
    open_maker: Callable[[int], ShardWorker], ledger: TaskQueue, device: torch.device, threads: int
) -> None:
    """Make every task on the cluster that `RAY_ADDRESS` names, else on one started here.

    The collection's root, the images and the target's files must be at the same paths on all nodes.

    Raises:
        InputError: Ray is not installed, or the cluster cannot be reached.
        Exception: What a worker raised and no retry will mend.
    """
    ray = _connect()
    # With a GPU Ray ends the worker after each task, as it may give the next one another GPU.
    remote = ray.remote(num_gpus=int(device.type == "cuda"), num_cpus=threads, max_retries=0)(_make)
    opener = ray.put(dumps(open_maker))
    running: dict[Any, ShardTask] = {}
    room = _room(ray, device, threads)
    while not ledger.done:
        while len(running) < room and (task := ledger.take()):
            running[remote.remote(opener, task)] = task
        (ready,), _ = ray.wait(list(running))
        task = running.pop(ready)
        try:
            for event in ray.get(ready):
                ledger.hear(event)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as error:  # the worker, its node, or its memory
            ledger.died([task], (), f"its worker died ({first_line(error)})")


def _make(opener: bytes, task: ShardTask) -> list[Event]:
    """Make one task in a worker."""
    notes, maker = EventBuffer(), _maker(opener)
    maker.make(task, notes)
    maker.flush()
    return list(notes)


@lru_cache(maxsize=1)
def _maker(opener: bytes) -> ShardWorker:
    """The worker's maker, opened once; the bytes come from our own driver."""
    maker: ShardWorker = loads(opener)(0)  # noqa: S301
    return maker


def _connect() -> Any:
    """Ray, connected.

    Raises:
        InputError: It is not installed, or its cluster cannot be reached.
    """
    try:
        import ray
    except ImportError as error:
        raise InputError("--executor ray needs Ray: pip install 'impure[ray]'") from error
    try:
        ray.init(ignore_reinit_error=True, include_dashboard=False, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(f"Ray's cluster cannot be reached: {first_line(error)}") from error
    return ray


def _room(ray: Any, device: torch.device, threads: int) -> int:
    """Tasks that the cluster holds at once; twice as many, so that none waits for the next."""
    kind, each = ("GPU", 1) if device.type == "cuda" else ("CPU", threads)
    return 2 * max(int(ray.cluster_resources().get(kind, 1)) // each, 1)
