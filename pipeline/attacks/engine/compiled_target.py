"""The target compiled for one size of batch; on a GPU its kernels are launched together, as CUDA graphs."""

from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import pad

from impure.manifests.base.errors import InputError, first_line
from impure.pipeline.attacks.engine.gradients import Model
from impure.pipeline.attacks.engine.precision import matrix_products
from impure.pipeline.attacks.engine.threat_model import model_dtype
from impure.pipeline.targets.target import Target


class CompiledTarget:
    """A target to attack through, for attacks that differentiate each forward pass at most once.

    PyTorch compiles for one shape: smaller batches are filled up with black images. On a GPU the kernels of
    the forward and of the backward pass are captured as two CUDA graphs, since small networks spend their
    time on launching them. A graph writes to the same memory at each run, so results are copied, and a
    gradient that comes too late is refused.

    Args:
        target: What to compile, in its memory format then.
        batch_size: The most images that it will be given.
        precision: One of `PRECISIONS`.
    """

    def __init__(self, target: Target, batch_size: int, precision: str) -> None:
        self._target = target
        self._batch_size = batch_size
        self._precision = precision
        self._network: Model | None = None
        self._passes = 0

    @property
    def is_ready(self) -> bool:
        """Whether it is compiled."""
        return self._network is not None

    def __call__(self, images: Tensor) -> Tensor:
        """Logits of images (N, C, H, W), N at most the batch size; compiles at the first call."""
        network = self.compile()
        filled = pad(images, (0, 0, 0, 0, 0, 0, 0, self._batch_size - len(images)))
        filled = filled.contiguous(memory_format=self._target.memory_format)  # else it would be compiled anew
        self._passes += 1
        if filled.requires_grad:
            filled.register_hook(self._gradient_of(self._passes))
        return network(filled)[: len(images)].clone()

    def _gradient_of(self, number: int) -> Model:
        """A hook that copies the gradient of a pass.

        Raises:
            RuntimeError: When called, if another pass, or this one's gradient, has overwritten its memory.
        """

        def copy(gradient: Tensor) -> Tensor:
            if self._passes != number:
                raise RuntimeError("a compiled pass must be differentiated once, before the next pass")
            self._passes += 1
            return gradient.clone()

        return copy

    def compile(self) -> Model:
        """Compile, unless that is done; takes up to minutes. Returns the network for one shape.

        Raises:
            InputError: It cannot be compiled, for instance where there is no C++ compiler.
        """
        if self._network is None:  # a compiled module has no truth value
            try:
                self._network = self._compiled()
            except RuntimeError as error:
                name, reason = self._target.card.name, first_line(error)
                raise InputError(
                    f"target {name!r} cannot be compiled ({reason}); leave out --compile"
                ) from error
        return self._network

    def _compiled(self) -> Model:
        network: Model = torch.compile(self._target, dynamic=False)
        device, side = self._target.mean.device, self._target.card.crop
        shape, dtype = (self._batch_size, 3, side, side), model_dtype(self._target)
        images = torch.zeros(shape, dtype=dtype, device=device).to(memory_format=self._target.memory_format)
        images.requires_grad_()
        on_gpu, bf16 = device.type == "cuda", self._precision == "bf16"
        # A captured graph may hold nothing of autocast's cache, which is emptied afterwards.
        with (
            torch.enable_grad(),
            matrix_products(self._precision),
            torch.autocast(device.type, torch.bfloat16, enabled=bf16, cache_enabled=not on_gpu),
        ):
            torch.autograd.grad(network(images).sum(), images)
            if on_gpu:
                return cast(
                    Model, torch.cuda.make_graphed_callables(lambda images: network(images), (images,))
                )
        return network
