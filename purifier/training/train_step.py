"""One step of learning: crops, the network's random choices, the loss, the update (paper, Algorithm 1)."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from impure.manifests.base.errors import InputError, first_line
from impure.pipeline.targets.weights import load_strictly
from impure.purifier.data.crops import crop_side, paired_crops
from impure.purifier.data.dataset import Batch
from impure.purifier.losses.perceptual import PerceptualLoss, l1
from impure.purifier.losses.rcm import combine
from impure.purifier.riae.model import RIAE
from impure.purifier.riae.noise import Randomness
from impure.purifier.training.distributed import Ranks
from impure.purifier.training.train_config import TrainConfig


class TrainStep:
    """The model, its optimiser and its average; draws depend on seed, step and part alone."""

    def __init__(
        self,
        config: TrainConfig,
        model: RIAE,
        features: nn.Module | None,
        device: torch.device,
        ranks: Ranks | None = None,
    ) -> None:
        """Put everything on the device.

        Args:
            config: The recipe.
            model: What learns.
            features: Feature network of the perceptual loss, in [0,1] space; frozen from here on. None for
                recipes without one.
            device: Where to compute.
            ranks: The processes that learn together.

        """
        self.config, self.model, self.device = config, model.to(device), device
        self.ranks = ranks or Ranks()
        self.perceptual: PerceptualLoss | None = None
        if features is not None:
            loss = config.loss
            self.perceptual = PerceptualLoss(
                features.to(device), loss.lambdas, per_position=loss.per_position, bf16=config.bf16
            )
        self.optimizer = torch.optim.AdamW(parameter_groups(model, config), betas=(0.9, 0.95), fused=True)
        self.average = deepcopy(model).requires_grad_(False) if config.ema else None
        self.generator = Generator(device)
        self.parallel = self.ranks.wrap(model)
        self._settle()
        self.network = compiled(self.parallel) if config.compiled else self.parallel

    @property
    def export_model(self) -> RIAE:
        """What users get: the averaged weights, where there are any."""
        return self.model if self.average is None else self.average

    def update(self, parts: Sequence[Batch], step: int, rate: float) -> Tensor:
        """One update of the weights.

        Args:
            parts: This rank's parts of the batch; their shares over all ranks sum to 1.
            step: Counted from the beginning.
            rate: Learning rate.

        Returns:
            This rank's share of loss, pixel loss and perceptual loss (3,), on the device.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros(3, device=self.device)
        for number, part in enumerate(parts):
            self._reseed(step, number)
            with self._together(number == len(parts) - 1):
                losses = self.losses(*self.crop(part)) * part.share
                (losses[0] * self.ranks.world).backward()  # DDP takes the mean over the ranks
            total += losses.detach()
        if self.config.grad_clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip)
        self.optimizer.step()
        if self.average is not None:
            self._add_to(self.average, 1 - self.config.ema if step else 1.0)
        return total

    def crop(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Random windows in [0,1]: (B, 3, h, w), distinct clean ones (U, 3, h, w), and rows (B,) of these."""
        adversarial, clean, clean_row = (each.to(self.device, non_blocking=True) for each in batch[:3])
        batch = Batch(adversarial, clean, clean_row, batch.share)
        height, width = batch.clean.shape[2:]
        if self.config.stage == "pairs":
            multiple = self.model.config.multiple
            height, width = (crop_side(side, self.config.crop, multiple) for side in (height, width))
        adversarial, clean = paired_crops(batch, height, width, self.generator)
        return adversarial.float() / 255, clean.float() / 255, batch.clean_row

    def losses(self, adversarial: Tensor, clean: Tensor, clean_row: Tensor) -> Tensor:
        """Loss, pixel loss and perceptual loss (3,) (Eq. 15).

        Args:
            adversarial: RGB in [0,1] (B, 3, H, W).
            clean: Distinct clean images, likewise (U, 3, H, W).
            clean_row: Row of `clean` that belongs to each attacked image (B,).
        """
        loss, model = self.config.loss, self.model
        randomness = model.draw_training(adversarial, self.generator)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.bf16):
            output = self._rebuild(adversarial, randomness).float()
            pixel = l1(output, model.normalise(clean)[clean_row], loss.per_position)
            perceptual = torch.zeros_like(pixel)
            if self.perceptual is not None:
                purified = model.denormalise(output)
                mixed = combine(purified, adversarial, model.config.patch, loss.combination, self.generator)
                perceptual = self.perceptual(mixed, clean, clean_row)
        return torch.stack([pixel + perceptual, pixel, perceptual])

    def _rebuild(self, images: Tensor, randomness: Randomness) -> Tensor:
        """What the network makes of the images; a compiled one is compiled when it first sees their size.

        Raises:
            InputError: It cannot be compiled, for instance where there is no C++ compiler.
        """
        try:
            output: Tensor = self.network(images, randomness)
        except torch._dynamo.exc.TorchDynamoException as error:
            raise InputError(
                f"RIAE cannot be compiled here ({first_line(error)}); leave out --compile"
            ) from error
        return output

    def _settle(self) -> None:
        """Let DDP arrange its buckets, which it does after the first backward pass of a process.

        Else a resumed run would add up the gradients of three and more ranks in another order.
        """
        if self.ranks.world > 1:
            side = self.model.config.multiple
            images = torch.zeros(1, 3, side, side, device=self.device)
            self.parallel(images, self.model.draw_training(images, self.generator)).sum().backward()
            self.optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Any]:
        """All that changes, for `load`."""
        average = {} if self.average is None else self.average.state_dict()
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": average,
        }

    def load(self, state: Mapping[str, Any], where: str) -> None:
        """Take what `state` returned.

        Raises:
            InputError: It is another architecture's; the message names `where`.
        """
        load_strictly(self.model, state["model"], where)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            load_strictly(self.average, state["average"], where)

    @torch.no_grad()
    def _add_to(self, average: RIAE, share: float) -> None:
        """Move the averaged weights towards the present ones; PyTorch's own way waits for the GPU."""
        torch._foreach_lerp_(list(average.parameters()), list(self.model.parameters()), share)

    def is_finite(self) -> bool:
        """Whether the weights are worth keeping."""
        return bool(torch.stack([weight.isfinite().all() for weight in self.model.parameters()]).all())

    def _reseed(self, step: int, part: int) -> None:
        """Begin the draws of a part; there is no generator whose state a resumed run would have to know.

        Parts count through all ranks: two ranks draw what one rank with two parts draws.
        """
        part += self.ranks.rank * self.config.accumulate
        words = np.random.SeedSequence([self.config.seed, step, part]).generate_state(2)
        self.generator.manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)

    def _together(self, last: bool) -> AbstractContextManager[None]:
        """Gradients are exchanged once, with the last part."""
        if last or not isinstance(self.parallel, DistributedDataParallel):
            return nullcontext()
        return self.parallel.no_sync()


def compiled(network: nn.Module) -> nn.Module:
    """The network compiled for each size of images and length of batches that comes along.

    Sizes are few, and inductor (PyTorch 2.11) fails on RIAE where it makes them variable.
    """
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 64)
    return torch.compile(network, dynamic=False)  # type: ignore[return-value]  # a module like it


def parameter_groups(model: RIAE, config: TrainConfig) -> list[dict[str, Any]]:
    """Parameters with weight decay (matrices, kernels) and without (norms, biases, tokens, fusion logits)."""
    groups: dict[bool, list[Tensor]] = {True: [], False: []}
    for name, weight in model.named_parameters():
        groups[name.endswith(".weight") and weight.dim() > 1].append(weight)
    return [
        {"params": groups[True], "weight_decay": config.weight_decay},
        {"params": groups[False], "weight_decay": 0.0},
    ]
