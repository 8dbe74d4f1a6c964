"""RIAE, the Regional Intersection AutoEncoder (paper, section 3.2.1)."""

from pathlib import Path

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from impure.manifests.base.errors import InputError
from impure.pipeline.targets.weights import load_strictly, shapes_of
from impure.pipeline.tensors import check_images, check_levels
from impure.purifier.riae.blocks import Block, LayerNorm, PatchEmbed, initialise
from impure.purifier.riae.decoders import DECODERS, of_other_subsets
from impure.purifier.riae.noise import Partition, Randomness, draw_for_test, draw_for_training, grid_of
from impure.purifier.riae.noise_schedule import signal_shares
from impure.purifier.riae.patches import (
    patchify,
    position_table,
    put_back,
    reflect_pad,
    take,
    unpatchify,
    window_positions,
    zero_pad,
)
from impure.purifier.riae.pretrained import locate, read_config, read_parameters
from impure.purifier.riae.riae_config import FEATURE_NOISE, IMAGE_NOISE, RIAEConfig

MEAN = (0.485, 0.456, 0.406)  # ImageNet, RGB in [0,1]
STD = (0.229, 0.224, 0.225)


class RIAE(nn.Module):
    """Rebuilds every quarter (or half, or third) of an image's patches from the others.

    Parameters have the names and shapes of the paper's release, which are MAE's and timm's where it builds on
    MAE: weights of either load as they are (see `checkpoints.foreign`).

    A pass is a plain function of the images and its `Randomness`. Only the parameters that the masking mode
    uses exist.
    """

    mean: Tensor
    std: Tensor
    signal: Tensor
    encoder_table: Tensor
    decoder_table: Tensor

    def __init__(self, config: RIAEConfig) -> None:
        super().__init__()
        self.config = config
        width = config.encoder_dim
        narrow = config.decoder_dim
        self.patch_embed = PatchEmbed(config.patch, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList(Block(width, config.encoder_heads) for _ in range(config.encoder_depth))
        self.proj_layers = nn.ModuleList(nn.Linear(width, width) for _ in config.fusion)
        self.proj_weights = nn.Parameter(torch.zeros(len(config.fusion) + 1, 1, 1, 1))
        self.norm = LayerNorm(width)
        self.decoder_embed = nn.Linear(width, narrow)
        self.decoder_embed_norm = LayerNorm(narrow)
        self.decoder_head_embed = nn.Linear((config.subsets - 1) * width, narrow)
        if config.mask == "occlusion":
            self.mask_token = nn.Parameter(torch.zeros(1, 1, narrow))
        self.decoder_blocks = DECODERS[config.decoder](narrow, config.decoder_heads, config.decoder_depth)
        self.decoder_norm = LayerNorm(narrow)
        self.decoder_pred = nn.Linear(narrow, config.values)
        self.decoder_rb1 = nn.Conv2d(3, 3, 3, padding=1)
        self._add_constants()
        _initialise(self)

    def _add_constants(self) -> None:
        """Register what is fixed, and therefore in no checkpoint."""
        grid = self.config.grid
        constants = {
            "mean": torch.tensor(MEAN).view(3, 1, 1),
            "std": torch.tensor(STD).view(3, 1, 1),
            "signal": signal_shares().float(),
            "encoder_table": self._table(grid, grid, self.config.encoder_dim),
            "decoder_table": self._table(grid, grid, self.config.decoder_dim),
        }
        for name, value in constants.items():
            self.register_buffer(name, value, persistent=False)

    def _table(self, rows: int, columns: int, dim: int) -> Tensor:
        """Positions (rows, columns, dim)."""
        return self.config.position_scale * position_table(rows, columns, dim, self.config.position_period)

    @classmethod
    def from_pretrained(cls, where: str | Path) -> "RIAE":
        """Load a purifier for use: on the CPU, in eval mode.

        Nothing of the config is believed before the weights' header has been compared with it.

        Args:
            where: A run's folder, or its `model.safetensors` with `config.json` beside it, or, if there is no
                such path, the name of a model on the Hugging Face Hub: `owner/name` or `owner/name@revision`.

        Raises:
            InputError: A file is missing or damaged, the config describes no RIAE or an enormous one, the
                weights do not fit it or are not finite, or the Hub does not give the model.
        """
        folder, file = locate(where)
        config = read_config(folder)
        weights = read_parameters(file, parameter_shapes(config))
        model = cls(config)
        load_strictly(model, weights, str(file))
        return model.eval()

    def draw_training(
        self, images: Tensor, generator: Generator, *, steps_per_subset: bool = False
    ) -> Randomness:
        """The random choices of a training pass; see `noise.draw_for_training`."""
        return draw_for_training(self.config, images, generator, steps_per_subset=steps_per_subset)

    def draw_test(self, images: Tensor, generator: Generator, partition: Partition = "uniform") -> Randomness:
        """The random choices of a test pass; see `noise.draw_for_test`."""
        return draw_for_test(self.config, images, generator, partition)

    def forward(self, images: Tensor, randomness: Randomness) -> Tensor:
        """Rebuild every patch.

        Args:
            images: RGB in [0,1] (B, 3, H, W); both sides multiples of `config.multiple`.
            randomness: The random choices of this pass, made for images of this size.

        Returns:
            The reconstruction (B, 3, H, W) in normalised space, not clamped.

        Raises:
            InputError: A side is no multiple of `config.multiple`.
        """
        rebuilt: Tensor = self.decoder_rb1(self.rebuild(images, randomness))
        return rebuilt

    def purify(
        self,
        images: Tensor,
        *,
        seed: int | Generator = 0,
        samples: int = 1,
        partition: Partition = "uniform",
    ) -> Tensor:
        """Purify images of any size; differentiable, so call it under `no_grad` where no gradient is needed.

        Args:
            images: RGB in [0,1] (B, 3, H, W). Sides that are no multiple of `config.multiple` are
                padded to the right and below (see `pad`), and cropped back.
            seed: Of the noise: the same seed gives the same output on a CPU. A generator goes on instead.
            samples: How many purifications to average.
            partition: `uniform` (the paper's choice for tests) or `random`.

        Returns:
            RGB clamped to [0,1] (B, 3, H, W).

        Raises:
            InputError: `samples` is below 1, `partition` is unknown, or the images are no batch of RGB floats
                in [0,1].
        """
        check_images(images)
        if images.shape[1] != 3:
            raise InputError(f"purify: takes RGB images (B, 3, H, W); these are {tuple(images.shape)}")
        check_levels(images)
        if samples < 1:
            raise InputError(f"purify: samples is {samples}; it must be at least 1")
        generator = seed if isinstance(seed, Generator) else Generator(images.device).manual_seed(seed)
        padded = self.pad(images)
        height, width = images.shape[2:]
        total = torch.zeros_like(images)
        for _ in range(samples):
            purified = self.purify_once(padded, self.draw_test(padded, generator, partition))
            total = total + purified[..., :height, :width]
        return total / samples

    def pad(self, images: Tensor) -> Tensor:
        """Pad RGB in [0,1] (B, 3, H, W) to the right and below, by reflection or black as `config` says."""
        padding = zero_pad if self.config.padding == "zeros" else reflect_pad
        return padding(images, self.config.multiple)

    def purify_once(self, images: Tensor, randomness: Randomness) -> Tensor:
        """Purify with choices made beforehand.

        Args:
            images: RGB in [0,1] (B, 3, H, W); both sides multiples of `config.multiple`.
            randomness: The random choices, made for images of this size.

        Returns:
            RGB clamped to [0,1] (B, 3, H, W).

        Raises:
            InputError: A side is no multiple of `config.multiple`.
        """
        return self.denormalise(self(images, randomness)).clamp(0, 1)

    def normalise(self, images: Tensor) -> Tensor:
        """From RGB in [0,1] to the network's space, ImageNet's mean 0 and deviation 1; both (B, 3, H, W)."""
        return (images - self.mean) / self.std

    def denormalise(self, images: Tensor) -> Tensor:
        """The inverse of `normalise` (B, 3, H, W), not clamped."""
        return images * self.std + self.mean

    def rebuild(self, images: Tensor, randomness: Randomness) -> Tensor:
        """Compute all before the last convolution, which alone mixes neighbouring patches; see `forward`."""
        grid = grid_of(self.config, images)
        patches = patchify(self.normalise(images), self.config.patch)  # B, N, 3pp
        subsets = take(patches, randomness.partition)  # B, S, L, 3pp
        positions = self._positions(self.encoder_table, grid, randomness)  # B, S, L, D
        tokens, classes, masked = self._encode(subsets, positions, randomness)
        positions = self._positions(self.decoder_table, grid, randomness)  # B, S, L, d
        class_tokens = self.decoder_head_embed(of_other_subsets(classes))  # B, S, d
        rebuilt = self.decoder_blocks(tokens + positions, class_tokens, masked + positions)  # B, S, L, d
        values = put_back(self.decoder_pred(self.decoder_norm(rebuilt)), randomness.partition)  # B, N, 3pp
        return unpatchify(values, self.config.patch, *images.shape[2:])

    def _encode(
        self, patches: Tensor, positions: Tensor, randomness: Randomness
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Encode every subset by itself, from its patches (B, S, L, 3pp) and their positions (B, S, L, D).

        Returns:
            The decoder's visible tokens (B, S, L, d), the encoder's class tokens (B, S, D), and the masked
            tokens, which stand for a subset where it is to be rebuilt (B, S, L, d).
        """
        mask, batch = self.config.mask, patches.shape[0]  # len() would fix an exported graph's batch
        if mask in IMAGE_NOISE:  # clean and noisy image in one batch
            noisy = self._diffuse(patches, randomness.image_step, randomness.image_noise)
            patches, positions = torch.cat([patches, noisy]), torch.cat([positions, positions])
        encoded = self._encoder(self.patch_embed(patches) + positions)  # B or 2B, S, L + 1, D
        classes, features = encoded.split([1, encoded.shape[2] - 1], dim=2)
        embedded = self.decoder_embed_norm(self.decoder_embed(features))
        tokens, *noisy_tokens = embedded.split([batch] * (2 if mask in IMAGE_NOISE else 1))
        masked = noisy_tokens[0] if noisy_tokens else tokens
        if mask == "occlusion":
            masked = self.mask_token.to(tokens.dtype).expand_as(tokens)
        if mask in FEATURE_NOISE:
            masked = self._diffuse(masked, randomness.feature_step, randomness.feature_noise)
        return tokens, classes[:batch, :, 0], masked

    def _encoder(self, tokens: Tensor) -> Tensor:
        """Tokens (B, S, L, D) to fused features (B, S, L + 1, D); the class token comes first."""
        classes = self.cls_token.to(tokens.dtype).expand(*tokens.shape[:2], 1, -1)
        features = torch.cat([classes, tokens], dim=2).flatten(0, 1)  # B * S, L + 1, D
        weights = self.proj_weights.flatten().softmax(0)
        levels = []
        for index, block in enumerate(self.blocks):
            features = block(features)
            if index in self.config.fusion:
                level = self.config.fusion.index(index)
                linear: nn.Linear = self.proj_layers[level]  # type: ignore[assignment]
                levels.append(_weighted(linear, weights[level], features))
        normed: Tensor = self.norm(sum(levels, weights[-1] * features))
        return normed.view(*tokens.shape[:2], *normed.shape[1:])

    def _diffuse(self, values: Tensor, step: Tensor, noise: Tensor) -> Tensor:
        """Add noise (Ho et al. 2020, Eq. 4) to values (B, S, ...) by steps (B,) or (B, S)."""
        signal = self.signal[step].view(*step.shape, *[1] * (values.dim() - step.dim()))
        kept, added = (part.sqrt().to(values.dtype) for part in (signal, 1 - signal))
        return kept * values + added * noise.to(values.dtype)

    def _positions(self, table: Tensor, grid: tuple[int, int], randomness: Randomness) -> Tensor:
        """Positions (B, S, L, D) of the subsets' patches; a grid larger than the table gets a larger one."""
        rows, columns = grid
        size = max(rows, table.shape[0]), max(columns, table.shape[1])
        if size != table.shape[:2]:
            table = self._table(*size, table.shape[2]).to(table)
        if torch.is_autocast_enabled(table.device.type):  # tokens stay in its precision from block to block
            table = table.to(torch.get_autocast_dtype(table.device.type))
        return window_positions(table, randomness.partition, randomness.corner, columns)


def parameter_shapes(config: RIAEConfig) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a RIAE's parameters; takes no memory for them."""
    with torch.device("meta"):
        return shapes_of(RIAE(config).state_dict())


def _weighted(linear: nn.Linear, weight: Tensor, tokens: Tensor) -> Tensor:
    """`weight * linear(tokens)`: the matrix is multiplied, which is smaller than all tokens."""
    return F.linear(tokens, weight * linear.weight, weight * linear.bias)


def _initialise(riae: RIAE) -> None:
    """Xavier for linear layers, small normal tokens, and a last convolution that begins as the identity."""
    riae.apply(initialise)
    nn.init.normal_(riae.cls_token, std=0.02)
    if riae.config.mask == "occlusion":
        nn.init.normal_(riae.mask_token, std=0.02)
    nn.init.dirac_(riae.decoder_rb1.weight)
    nn.init.zeros_(riae.decoder_rb1.bias)  # type: ignore[arg-type]


load_purifier = RIAE.from_pretrained
