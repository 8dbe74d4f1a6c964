"""Batch size and memory format: what is fastest on a device, and how to tell that memory ran out."""

import time

import torch
from torch import Tensor

from impure.pipeline.attacks.attack_names import PRECISIONS
from impure.pipeline.attacks.engine.gradients import loss_and_gradient
from impure.pipeline.attacks.engine.precision import in_precision, matrix_products
from impure.pipeline.generation.sample_config import CHANNELS_LAST
from impure.pipeline.targets.target import MEMORY_FORMATS, Target

CPU_BATCH = 32
LARGEST = 256
REPEATS = 3
SEVERAL = 8
"""Images that tell on a CPU what one more takes."""
WORTHWHILE = 1.05
"""How much faster a batch of twice the size must be; else the smaller one is taken: it needs less memory."""
MEMORY_FRACTION = 0.6
"""Of the free memory, for activations; the rest is for the attacks' state and fragments."""


def fastest_memory_formats(target: Target) -> dict[str, str]:
    """The memory format in which gradients are fastest, by precision; the target is left in that of fp32.

    Measured on a GPU, on the network itself: there fp32 is often faster contiguous, and bf16 channels last.
    """
    if not target.mean.is_cuda:
        return dict.fromkeys(PRECISIONS, CHANNELS_LAST)
    size = min(_fitting(target), CPU_BATCH)
    seconds: dict[str, dict[str, float]] = {precision: {} for precision in PRECISIONS}
    for memory_format in MEMORY_FORMATS:
        target.lay_out(memory_format)
        for precision in PRECISIONS:
            seconds[precision][memory_format] = seconds_per_gradient(target, size, precision)
    fastest = {precision: min(taken, key=taken.__getitem__) for precision, taken in seconds.items()}
    target.lay_out(fastest["fp32"])
    return fastest


def fastest_batch_size(target: Target) -> int:
    """What suits the target's device: on a GPU doubled while that is faster and fits, up to `LARGEST`."""
    if not target.mean.is_cuda:
        return CPU_BATCH
    largest = _fitting(target)
    size = min(CPU_BATCH // 2, largest)
    seconds = seconds_per_gradient(target, size)
    while size * 2 <= largest:
        doubled = seconds_per_gradient(target, size * 2)
        if seconds < doubled * WORTHWHILE:
            break
        size, seconds = size * 2, doubled
    return size


def seconds_per_gradient(target: Target, batch_size: int, precision: str = "fp32") -> float:
    """How long the gradient of one image takes, in a batch of so many; the best of `REPEATS`."""
    images = _random_images(target, batch_size)
    model = in_precision(target, precision, images)
    durations = []
    with matrix_products(precision):
        for _ in range(REPEATS):
            started_at = time.perf_counter()
            *_, gradient = loss_and_gradient(model, images, lambda logits: logits.amax(1))
            gradient.sum().item()  # waits for the device
            durations.append(time.perf_counter() - started_at)
    return min(durations) / batch_size


def batch_overhead(target: Target, batch_size: int) -> float:
    """What a pass of a batch takes beside its images, as if so many images more were in it."""
    several = batch_size if target.mean.is_cuda else min(batch_size, SEVERAL)
    if several == 1:
        return 0.0
    alone, together = (_seconds_of_a_pass(target, count) for count in (1, several))
    of_an_image = (together - alone) / (several - 1)
    return batch_size if of_an_image <= 0 else min(max(alone / of_an_image - 1, 0.0), batch_size)


@torch.inference_mode()
def _seconds_of_a_pass(target: Target, batch_size: int) -> float:
    """How long the logits of a batch take, which needs less memory than a gradient; the best of `REPEATS`."""
    images = _random_images(target, batch_size)
    durations = []
    for _ in range(REPEATS):
        started_at = time.perf_counter()
        target(images).sum().item()  # waits for the device
        durations.append(time.perf_counter() - started_at)
    return min(durations)


def _random_images(target: Target, count: int) -> Tensor:
    """As many as a batch has, in the target's memory format."""
    side = target.card.crop
    images = torch.rand(count, 3, side, side, device=target.mean.device)
    return images.to(memory_format=target.memory_format)


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
    device, images = target.mean.device, _random_images(target, size)
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
