"""What one of two ranks does in `test_distributed`; imports little, as a process of its own has to."""

import torch
from torch import nn

from impure.purifier.training.distributed import joined

CPU = torch.device("cpu")


def work_as(rank: int) -> tuple[float, list[float], list[bool], bool]:
    """Gradient, sum, choices and place of one of two ranks."""
    with joined(rank, 2, CPU) as ranks:
        model = nn.Linear(1, 1, bias=False)
        parallel = ranks.wrap(model)
        parallel(torch.tensor([[1.0 + 2 * rank]])).sum().backward()
        summed = ranks.sum(torch.tensor([1.0 + rank, 10.0])).tolist()
        chosen = [ranks.broadcast(choice == rank, CPU) for choice in (0, 1)]
        ranks.barrier()
        assert model.weight.grad is not None
        return float(model.weight.grad), summed, chosen, ranks.is_main
