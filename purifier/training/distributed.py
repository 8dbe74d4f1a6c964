"""The processes that train one model together: distributed data parallel (DDP) under torchrun."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from impure.manifests.base.errors import InputError, first_line

TIMEOUT = timedelta(hours=1)  # others wait while the main rank validates; torchrun ends all where one fails


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """This process's rank and the world size; a single process never sends anything."""

    rank: int = 0
    world: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model with its gradients averaged over all ranks."""
        if self.world == 1:
            return model
        return DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)

    def sum(self, values: Tensor) -> Tensor:
        """The sum of the values of all ranks, in place; all ranks must call this."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def broadcast(self, choice: bool, device: torch.device) -> bool:
        """What the main rank chose; all ranks must call this."""
        if self.world == 1:
            return choice
        chosen = torch.tensor(int(choice), device=device)
        dist.broadcast(chosen, 0)
        return bool(chosen)

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.world > 1:
            dist.barrier()


@contextmanager
def joined(rank: int, world: int, device: torch.device) -> Iterator[Ranks]:
    """Join the other processes that torchrun started; it says where they are in MASTER_ADDR and MASTER_PORT.

    Args:
        rank: This process's number, from 0.
        world: World size, the number of processes; with 1 no others are looked for.
        device: What this process computes on.

    Raises:
        InputError: The others cannot be found.
    """
    if world == 1:
        yield Ranks()
        return
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.set_device(device)
    try:
        backend = "nccl" if cuda else "gloo"
        dist.init_process_group(backend, rank=rank, world_size=world, timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"rank {rank} of {world} cannot find the others ({first_line(error)}); start it with torchrun"
        ) from error
    try:
        yield Ranks(rank=rank, world=world)
    except RuntimeError as error:
        if not any(word in str(error) for word in ("by peer", "NCCL", "Timed out", "gloo")):
            raise
        raise InputError(
            f"rank {rank} of {world}: another rank stopped ({first_line(error)}); see its message"
        ) from error
    finally:
        dist.destroy_process_group()
