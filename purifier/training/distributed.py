"""The processes that train one model together: DDP under torchrun."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from impure.manifests.base.errors import InputError, first_line

PATIENCE = timedelta(hours=1)  # while the leading rank validates; torchrun ends all where one fails


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """This process's number and how many there are; alone, nothing is ever sent."""

    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model with its gradients averaged over all ranks."""
        if self.world == 1:
            return model
        return DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)

    def sum(self, values: Tensor) -> Tensor:
        """The sum of every rank's values; all ranks must ask."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def decide(self, choice: bool, device: torch.device) -> bool:
        """What the leading rank chose; all ranks must ask."""
        if self.world == 1:
            return choice
        chosen = torch.tensor(int(choice), device=device)
        dist.broadcast(chosen, 0)
        return bool(chosen)

    def wait(self) -> None:
        """Until every rank is here."""
        if self.world > 1:
            dist.barrier()


@contextmanager
def joined(rank: int, world: int, device: torch.device) -> Iterator[Ranks]:
    """Join the other processes that torchrun started; it says where they are in MASTER_ADDR and MASTER_PORT.

    Args:
        rank: This process's number.
        world: How many there are; with 1 nobody is looked for.
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
        dist.init_process_group(backend, rank=rank, world_size=world, timeout=PATIENCE)
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
