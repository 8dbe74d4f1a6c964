"""Shards as tasks of a Ray cluster; a worker keeps the network from one task to the next."""

from collections.abc import Callable
from functools import lru_cache
from pickle import dumps, loads
from typing import Any

import torch

from impure.manifests.base.errors import InputError, first_line
from impure.manifests.base.logs import log_failure
from impure.pipeline.executors.task_queue import TaskQueue
from impure.pipeline.generation.events import Event, EventBuffer, ShardTask
from impure.pipeline.generation.worker import ShardWorker


def run_ray(
    open_worker: Callable[[int], ShardWorker], queue: TaskQueue, device: torch.device, threads: int
) -> None:
    """Run every task on the cluster that `RAY_ADDRESS` names, else on one started here.

    The collection's root, the images and the target's files must be at the same paths on all nodes.

    Raises:
        InputError: Ray is not installed, or the cluster cannot be reached.
        Exception: What a worker raised and no retry will mend.
    """
    ray = _connect()
    # With a GPU Ray ends the worker after each task, as it may give the next one another GPU.
    remote = ray.remote(num_gpus=int(device.type == "cuda"), num_cpus=threads, max_retries=0)(_run_task)
    factory = ray.put(dumps(open_worker))
    running: dict[Any, ShardTask] = {}
    capacity = _capacity(ray, device, threads)
    while not queue.done:
        while len(running) < capacity and (task := queue.next_task()):
            running[remote.remote(factory, task)] = task
        (ready,), _ = ray.wait(list(running))
        task = running.pop(ready)
        try:
            for event in ray.get(ready):
                queue.record(event)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as error:  # the worker, its node, or its memory
            queue.worker_died([task], (), f"its worker died ({first_line(error)})")


def _run_task(factory: bytes, task: ShardTask) -> list[Event]:
    """Run one task in a process of the cluster."""
    buffer = EventBuffer()
    try:
        worker = _worker(factory)
        worker.run(task, buffer)
        worker.flush()
    except Exception as error:
        log_failure(error)
        raise
    return list(buffer)


@lru_cache(maxsize=1)
def _worker(factory: bytes) -> ShardWorker:
    """This process's worker, opened once; the bytes come from our own driver."""
    worker: ShardWorker = loads(factory)(0)  # noqa: S301
    return worker


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


def _capacity(ray: Any, device: torch.device, threads: int) -> int:
    """Tasks that the cluster holds at once; twice as many, so that none waits for the next."""
    resource, needed = ("GPU", 1) if device.type == "cuda" else ("CPU", threads)
    return 2 * max(int(ray.cluster_resources().get(resource, 1)) // needed, 1)
