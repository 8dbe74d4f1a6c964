"""What an attack computes in: the proposal may be cheaper than fp32, its state and the verdict never are."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from impure.manifests.base.errors import InputError
from impure.pipeline.attacks.engine.gradients import Model


@contextmanager
def matrix_products(precision: str) -> Iterator[None]:
    """Let CUDA's matrix products and convolutions use TF32 for "tf32", and nothing but fp32 otherwise.

    PyTorch's own default lets convolutions use TF32, which would leak into fp32 proposals and verdicts.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse TF32 without a CUDA device, where it would silently be fp32.

    Raises:
        InputError: naming the device.
    """
    if precision == "tf32" and device.type != "cuda":
        raise InputError(f"precision tf32 needs a CUDA device, this is {device}; use fp32 or bf16")


def in_precision(model: Model, precision: str, like: Tensor) -> Model:
    """Return the model to attack through: with "bf16" its forward pass is autocast, its logits are not.

    Args:
        model: the target.
        precision: one of `PRECISIONS`.
        like: a tensor on the device and in the dtype of the attack.

    Raises:
        InputError: TF32 without a CUDA device.
    """
    check_precision(precision, like.device)
    if precision != "bf16":
        return model

    def autocast(images: Tensor) -> Tensor:
        with torch.autocast(like.device.type, torch.bfloat16):
            logits = model(images)
        return logits.to(like.dtype)

    return autocast
