"""Batch size: how many images a device holds at once, and how to tell that it does not hold them."""

import torch

from impure.pipeline.attacks.engine.gradients import loss_and_gradient
from impure.pipeline.targets.target import Target

CPU_BATCH = 32
LARGEST = 256
MEMORY_FRACTION = 0.6
"""Of the free memory, for activations; the rest is for the attacks' state and fragments."""


def fitting_batch_size(target: Target) -> int:
    """What suits the target's device."""
    return _fitting(target) if target.mean.is_cuda else CPU_BATCH


def _fitting(target: Target) -> int:
    """Return the largest power of two whose gradients fit the GPU's free memory, at most `LARGEST`."""
    few, more = 4, 8
    _peak(target, more)  # the first pass also allocates workspaces
    image_bytes = max((_peak(target, more) - _peak(target, few)) // (more - few), 1)
    free, _ = torch.cuda.mem_get_info(target.mean.device)
    fitting = max(int(free * MEMORY_FRACTION) // image_bytes, 1)
    return min(1 << (fitting.bit_length() - 1), LARGEST)


def _peak(target: Target, size: int) -> int:
    """Bytes that the gradients of `size` images take at most."""
    device, side = target.mean.device, target.card.crop
    images = torch.rand(size, 3, side, side, device=device).to(memory_format=torch.channels_last)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    loss_and_gradient(target, images, lambda logits: logits.amax(1))
    return torch.cuda.max_memory_allocated(device) - before


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a GPU's or the CPU's allocator gave up; the latter has no class of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def is_device_lost(error: BaseException) -> bool:
    """Whether the GPU's context is gone: nothing works in this process any more."""
    return isinstance(error, torch.AcceleratorError) or "CUDA error" in str(error)


def free_memory() -> None:
    """Give cached GPU memory back, so that a smaller batch does not fail on fragments."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
