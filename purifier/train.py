"""Training: one process, one device, exactly resumable (paper, Algorithm 1)."""

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from impure.manifests.collection import Committed
from impure.manifests.errors import InputError
from impure.purifier.checkpoint import load_state, load_weights, save_checkpoint
from impure.purifier.data import CACHE_BYTES, EpochSampler, PairDataset, crop_side, paired_crops
from impure.purifier.losses import PerceptualLoss, l1
from impure.purifier.rcm import combine
from impure.purifier.riae import RIAE, preset
from impure.purifier.runs import TrainConfig, TrainLog, describe_run, learning_rate, open_run

LOG_STEPS = 20


def train(
    config: TrainConfig,
    units: Sequence[Committed],
    features: nn.Module | None,
    out: Path,
    device: torch.device,
    *,
    resume: bool = True,
    progress: bool = False,
    workers: int = 0,
    checkpoint_seconds: float = 600.0,
) -> Path:
    """Train a RIAE, or go on where a killed run stopped; on the CPU both end with the same bits.

    Args:
        config: The whole recipe.
        units: Shards to train on.
        features: Feature network for the perceptual loss: takes RGB in [0,1], normalises inside. It gets
            frozen. None is right only for recipes without one.
        out: The run's folder: config.json, log.csv, state.pt, model.safetensors.
        device: Where to compute.
        resume: Go on with the run in `out`; otherwise a run there is an error.
        progress: Show a bar with rate and time left on standard error.
        workers: Processes that decode images; with 0 decoded images are kept in memory.
        checkpoint_seconds: Save at least this often; every epoch's end is saved anyway.

    Returns:
        `out`.

    Raises:
        InputError: Bad shards or config, another run in `out`, a feature network that is missing or not asked
            for, a folder that cannot be written, or a loss that is no longer finite.
    """
    if bool(config.loss.lambdas) != (features is not None):
        need = f"needs its feature network {config.loss.network!r}" if features is None else "takes none"
        raise InputError(f"recipe {config.recipe!r} {need}")
    data = PairDataset(units, clean_pairs=config.clean_pairs, cache_bytes=0 if workers else CACHE_BYTES)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = RIAE(preset(config.preset, config.mask)).to(device)
    resumed = open_run(out, describe_run(config, model, data.pairs), resume=resume)
    trainer = _Trainer(config, model, data, features, out, device)
    if resumed:
        trainer.load()
    trainer.log.forget_after(trainer.done)
    trainer.run(progress=progress, workers=workers, checkpoint_seconds=checkpoint_seconds)
    return out


class _Trainer:
    """One run: what changes is the model, the optimiser, the generator, and the position (epoch, step)."""

    def __init__(
        self,
        config: TrainConfig,
        model: RIAE,
        data: PairDataset,
        features: nn.Module | None,
        out: Path,
        device: torch.device,
    ) -> None:
        self.config, self.model, self.data, self.out, self.device = config, model, data, out, device
        self.perceptual: PerceptualLoss | None = None
        if features is not None:
            loss = config.loss
            self.perceptual = PerceptualLoss(
                features.to(device), loss.lambdas, per_position=loss.per_position
            )
        self.sampler = EpochSampler(data.sizes, config.batch_size, config.seed)
        self.optimizer = torch.optim.AdamW(_groups(model, config), betas=(0.9, 0.95), fused=True)
        self.generator = Generator(device).manual_seed(config.seed)
        self.log = TrainLog(out)
        self.epoch = self.step = 0  # step: inside the epoch

    def load(self) -> None:
        """Take everything that changes from the last checkpoint."""
        state = load_state(self.out)
        load_weights(self.model, state["model"], str(self.out))
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.epoch, self.step = state["epoch"], state["step"]

    def save(self) -> None:
        """Write a checkpoint, after making sure that it is worth keeping."""
        finite = torch.stack([weight.isfinite().all() for weight in self.model.parameters()]).all()
        self.check(bool(finite))
        state = {
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "epoch": self.epoch,
            "step": self.step,
        }
        save_checkpoint(self.out, self.model, state)

    @property
    def done(self) -> int:
        """Steps since the beginning."""
        return self.epoch * self.sampler.steps + self.step

    def run(self, *, progress: bool, workers: int, checkpoint_seconds: float) -> None:
        """Train to the end of the last epoch."""
        loader = DataLoader(
            self.data, batch_sampler=self.sampler, num_workers=workers, pin_memory=self.device.type == "cuda"
        )
        total = self.config.epochs * self.sampler.steps
        saved = time.monotonic()
        with tqdm(total=total, initial=self.done, unit="step", disable=not progress) as bar:
            for pairs in self.batches(loader):
                self.log.add(self.train_step(pairs), len(pairs))
                self.step += 1
                bar.update()
                if self.step == self.sampler.steps:
                    self.epoch, self.step = self.epoch + 1, 0
                due = self.step == 0 or time.monotonic() - saved >= checkpoint_seconds
                if due or self.done % LOG_STEPS == 0:
                    bar.set_postfix(epoch=self.epoch, loss=f"{self.write_log():.4f}")
                if due:
                    self.save()
                    saved = time.monotonic()

    def batches(self, loader: DataLoader[Tensor]) -> Iterator[Tensor]:
        """The batches that are left, from the present position on."""
        while self.epoch < self.config.epochs:
            self.sampler.epoch, self.sampler.start = self.epoch, self.step
            yield from loader

    def train_step(self, pairs: Tensor) -> Tensor:
        """One update with a batch of pairs (B, 2, 3, H, W), uint8.

        Returns:
            Loss, pixel loss and perceptual loss (3,), still on the device.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.done, self.sampler.steps)
        losses = self.losses(self.crop(pairs))
        self.optimizer.zero_grad(set_to_none=True)
        losses[0].backward()
        if self.config.grad_clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip)
        self.optimizer.step()
        return losses.detach()

    def crop(self, pairs: Tensor) -> Tensor:
        """Random windows of a batch as floats in [0,1], on the device."""
        multiple = self.model.config.multiple
        height, width = (crop_side(side, self.config.crop, multiple) for side in pairs.shape[3:])
        pairs = pairs.to(self.device, non_blocking=True)
        return paired_crops(pairs, height, width, self.generator).float() / 255

    def losses(self, pairs: Tensor) -> Tensor:
        """Loss, pixel loss and perceptual loss (3,) of pairs (B, 2, 3, H, W) in [0,1] (Eq. 15)."""
        adversarial, clean = pairs[:, 0], pairs[:, 1]
        loss, model = self.config.loss, self.model
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.bf16):
            output = model(adversarial, self.generator).float()
            pixel = l1(output, model.normalise(clean), loss.per_position)
            perceptual = torch.zeros_like(pixel)
            if self.perceptual is not None:
                purified = model.denormalise(output)
                mixed = combine(purified, adversarial, model.config.patch, loss.combination, self.generator)
                perceptual = self.perceptual(mixed, clean)
        return torch.stack([pixel + perceptual, pixel, perceptual])

    def write_log(self) -> float:
        """Write a row of the log; the mean loss since the last one."""
        rate = learning_rate(self.config, self.done - 1, self.sampler.steps)
        mean = self.log.write(self.epoch, self.done, rate)
        self.check(math.isfinite(mean))
        return mean

    def check(self, finite: bool) -> None:
        """Stop if something is not finite."""
        if not finite:
            raise InputError(
                f"{self.out}: the loss is no longer finite at step {self.done} (epoch {self.epoch}); the "
                "last good checkpoint, if there was one, is kept. Train with a lower --lr and another --out"
            )


def _groups(model: RIAE, config: TrainConfig) -> list[dict[str, Any]]:
    """Parameters with weight decay (matrices, kernels) and without (norms, biases, tokens, fusion logits)."""
    weights = list(model.parameters())
    return [
        {"params": [each for each in weights if each.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [each for each in weights if each.dim() <= 1], "weight_decay": 0.0},
    ]
