"""One update of the weights: crops, loss, gradients, optimiser (paper, Algorithm 1)."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from impure.manifests.base.errors import InputError, first_line
from impure.pipeline.targets.weights import load_strictly
from impure.pipeline.tensors import to_float
from impure.purifier.data.crops import crop_side, paired_crops
from impure.purifier.data.dataset import Batch
from impure.purifier.defences.trained.base.trainable import TrainingImages
from impure.purifier.training.distributed import Ranks
from impure.purifier.training.objectives.objective import Objective
from impure.purifier.training.train_config import TrainConfig

_ENOUGH_PIXELS = 96  # side of an image that feature networks and most targets can take


class TrainState(TypedDict):
    """All of a training step that changes: what a checkpoint holds to go on from."""

    model: dict[str, Tensor]
    optimizer: dict[str, Any]  # as PyTorch's optimiser describes itself
    ema_model: dict[str, Tensor]  # empty without a moving average


class TrainStep:
    """The model, its optimiser and its moving average.

    The random numbers of a micro-batch depend on the seed, the update and the micro-batch alone.
    """

    def __init__(
        self, config: TrainConfig, objective: Objective, device: torch.device, ranks: Ranks | None = None
    ) -> None:
        """Put everything on the device.

        Args:
            config: The recipe.
            objective: What learns, and its loss.
            device: Where to compute.
            ranks: The processes that learn together.
        """
        self.config = config
        self.objective = objective
        self.model = objective.model.to(device)
        for network in objective.frozen:
            network.to(device)
        self.device = device
        self.ranks = ranks or Ranks()
        self.optimizer = torch.optim.AdamW(
            parameter_groups(objective, config.weight_decay), betas=(0.9, config.beta2), fused=True
        )
        self.ema_model = deepcopy(self.model).requires_grad_(False) if config.ema_decay else None
        self.generator = Generator(device)
        self.parallel = self.ranks.wrap(objective.trained)
        self._fix_buckets()
        self.network = compiled(self.parallel) if config.compiled else self.parallel
        self._shapes: set[torch.Size] = set()  # of micro-batches so far

    @property
    def export_model(self) -> nn.Module:
        """What users get: the moving average of the weights, where there is one."""
        return self.model if self.ema_model is None else self.ema_model

    def will_compile(self, micro_batches: Sequence[Batch]) -> bool:
        """Whether an update has to compile first: a batch has another length, or images of another size."""
        shapes = {micro_batch.adversarial.shape for micro_batch in micro_batches}
        unseen = shapes - self._shapes
        self._shapes |= shapes
        return self.config.compiled and bool(unseen)

    def update(self, micro_batches: Sequence[Batch], step: int, rate: float) -> Tensor:
        """One update of the weights.

        Args:
            micro_batches: This rank's, in order; the weights of all ranks' sum to 1.
            step: Number of the update since the beginning, from 0.
            rate: Learning rate.

        Returns:
            Losses (k,) of this rank's images, the first is minimised, each weighted by its part of the global
            batch: summed over all ranks, the batch's. On the device.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        losses = self._add_gradients(micro_batches, step)
        if self.config.clip_grad:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_grad)
        self.optimizer.step()
        if self.ema_model is not None:
            self._move_average(self.ema_model, 1 - self.config.ema_decay if step else 1.0)
        return losses

    def _add_gradients(self, micro_batches: Sequence[Batch], step: int) -> Tensor:
        """Add up the gradients of the global batch, on every rank; returns the losses as `update` does."""
        total = torch.zeros(len(self.objective.loss_names), device=self.device)
        for number, micro_batch in enumerate(micro_batches):
            self._reseed(step, number)
            with self._exchange(number == len(micro_batches) - 1):
                losses = self.losses(self.crop(micro_batch)) * micro_batch.weight
                (losses[0] * self.ranks.world).backward()  # DDP takes the mean over ranks; we sum
            total += losses.detach()
        return total

    def crop(self, batch: Batch) -> TrainingImages:
        """Random windows of the images."""
        adversarial, clean, clean_row = (images.to(self.device, non_blocking=True) for images in batch[:3])
        labels = batch.labels.to(self.device, non_blocking=True)
        batch = batch._replace(adversarial=adversarial, clean=clean, clean_row=clean_row)
        height, width = clean.shape[2:]
        if self.config.stage != "pretrain" or self.config.crop:
            multiple = self.objective.multiple
            height, width = (crop_side(side, self.config.crop, multiple) for side in (height, width))
        adversarial, clean = paired_crops(batch, height, width, self.generator)
        return TrainingImages(to_float(adversarial), to_float(clean), clean_row, labels)

    def losses(self, images: TrainingImages) -> Tensor:
        """Losses (k,); a compiled network is compiled when it first sees the images' size.

        Raises:
            InputError: It cannot be compiled, for instance where there is no C++ compiler.
        """
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.bf16):
                return self.objective.losses(self.network, images, self.generator)
        except torch._dynamo.exc.TorchDynamoException as error:
            raise InputError(
                f"RIAE cannot be compiled here ({first_line(error)}); leave out --compile"
            ) from error

    def _fix_buckets(self) -> None:
        """Let DDP arrange its buckets, which it does after the first backward pass of a process.

        Else a resumed run would add up the gradients of three and more ranks in another order.
        """
        if self.ranks.world > 1:
            buffers = [buffer.clone() for buffer in self.model.buffers()]
            side = self.config.crop or -(-_ENOUGH_PIXELS // self.objective.multiple) * self.objective.multiple
            images = _blank(side, self.device)
            self.objective.losses(self.parallel, images, self.generator)[0].backward()
            for buffer, before in zip(self.model.buffers(), buffers, strict=True):
                buffer.detach().copy_(before)  # BatchNorm has seen nothing yet
            self.optimizer.zero_grad(set_to_none=True)

    def state(self) -> TrainState:
        """All that changes, for `load`."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema_model": {} if self.ema_model is None else self.ema_model.state_dict(),
        }

    def load(self, state: TrainState, where: str) -> None:
        """Take what `state` returned.

        Raises:
            InputError: It is another architecture's; the message names `where`.
        """
        load_strictly(self.model, state["model"], where)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema_model is not None:
            load_strictly(self.ema_model, state["ema_model"], where)

    @torch.no_grad()
    def _move_average(self, ema_model: nn.Module, weight: float) -> None:
        """Move the averaged weights towards the present ones; PyTorch's own way waits for the GPU."""
        torch._foreach_lerp_(list(ema_model.parameters()), list(self.model.parameters()), weight)
        for averaged, present in zip(ema_model.buffers(), self.model.buffers(), strict=True):
            averaged.copy_(present)  # statistics of BatchNorm are averages already

    def is_finite(self) -> bool:
        """Whether the weights are worth keeping."""
        return bool(torch.stack([weight.isfinite().all() for weight in self.model.parameters()]).all())

    def _reseed(self, step: int, number: int) -> None:
        """Seed the generator for a micro-batch; a resumed run need not know any generator's state.

        Micro-batches count through all ranks: two ranks draw what one rank with two micro-batches draws.
        """
        number += self.ranks.rank * self.config.grad_accum
        words = np.random.SeedSequence([self.config.seed, step, number]).generate_state(2)
        self.generator.manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)

    def _exchange(self, last: bool) -> AbstractContextManager[None]:
        """Exchange gradients between ranks once an update, with the last micro-batch."""
        if last or not isinstance(self.parallel, DistributedDataParallel):
            return nullcontext()
        return self.parallel.no_sync()


def compiled(network: nn.Module) -> nn.Module:
    """The network compiled for each size of images and length of batches that comes along.

    Sizes are few, and inductor (PyTorch 2.11) fails on RIAE where it makes them variable.
    """
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 64)
    return torch.compile(network, dynamic=False)  # type: ignore[return-value]  # a module like it


def _blank(side: int, device: torch.device) -> TrainingImages:
    """Two black images."""
    images = torch.zeros(2, 3, side, side, device=device)
    rows = torch.arange(2, device=device)
    return TrainingImages(images, images, rows, torch.zeros_like(rows))


def parameter_groups(objective: Objective, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters with weight decay, and those without."""
    groups: dict[bool, list[Tensor]] = {True: [], False: []}
    for name, weight in objective.model.named_parameters():
        groups[objective.decays(name, weight)].append(weight)
    return [
        {"params": groups[True], "weight_decay": weight_decay},
        {"params": groups[False], "weight_decay": 0.0},
    ]
