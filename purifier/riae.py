"""RIAE, the Regional Intersection AutoEncoder (paper, section 3.2.1)."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Generator, Tensor, nn

from impure.manifests.errors import InputError
from impure.purifier.blocks import EPSILON, Block
from impure.purifier.patches import (
    SUBSETS,
    patchify,
    position_table,
    put_back,
    random_division,
    reflect_pad,
    take,
    uniform_division,
    unpatchify,
    window_positions,
)

Mask = Literal["occlusion", "image-noise", "feature-noise", "both"]
Dividing = Literal["uniform", "random"]

MEAN = (0.485, 0.456, 0.406)  # ImageNet, RGB in [0,1]
STD = (0.229, 0.224, 0.225)
IMAGE_STEPS = (200, 600)  # range of the diffusion step t in training
IMAGE_STEP = 400  # t at test time
FEATURE_STEPS = (200, 1000)
FEATURE_STEP = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class RIAEConfig:
    """Sizes of the network; the defaults are the paper's.

    Raises:
        InputError: A size is impossible; the message names it.
    """

    patch: int = 16  # pixels
    grid: int = 28  # rows and columns of the position table
    position_period: float = 10000.0  # base of the positions' frequencies
    position_scale: float = 1.0  # factor of the positions
    encoder_dim: int = 768
    encoder_depth: int = 12
    encoder_heads: int = 12
    decoder_dim: int = 512
    decoder_depth: int = 8
    decoder_heads: int = 16
    fusion: tuple[int, ...] = (0, 2, 4, 6, 8)  # encoder blocks fused with the last one
    mask: Mask = "both"

    def __post_init__(self) -> None:
        for name in ("patch", "grid", "encoder_depth", "decoder_depth"):
            if getattr(self, name) < 1:
                raise InputError(f"RIAE: {name} is {getattr(self, name)}; it must be at least 1")
        for name, least in (("position_period", 1), ("position_scale", 0)):
            if not least < getattr(self, name) < math.inf:
                raise InputError(
                    f"RIAE: {name} is {getattr(self, name)}; it must be finite and above {least}"
                )
        for part in ("encoder", "decoder"):
            dim, heads = getattr(self, f"{part}_dim"), getattr(self, f"{part}_heads")
            if dim < 4 or dim % 4 or heads < 1 or dim % heads:
                raise InputError(
                    f"RIAE: {part}_dim {dim} must be a multiple of 4 and of {part}_heads ({heads})"
                )
        if any(not 0 <= block < self.encoder_depth - 1 for block in self.fusion):
            raise InputError(
                f"RIAE: fusion {self.fusion} must name blocks before the last of {self.encoder_depth}"
            )
        if self.mask not in get_args(Mask):
            raise InputError(f"RIAE: mask {self.mask!r} is unknown; choose from {', '.join(get_args(Mask))}")

    @property
    def multiple(self) -> int:
        """Both sides of an image must be multiples of this many pixels."""
        return 2 * self.patch


PRESETS: dict[str, RIAEConfig] = {
    "base": RIAEConfig(),
    "small": RIAEConfig(encoder_dim=384, encoder_heads=6, decoder_dim=256, decoder_depth=4, decoder_heads=8),
    # For 48 to 64 pixels on a CPU. Frequencies that suit a small grid, and positions that at first outweigh
    # the content, let attention find a patch's neighbours within minutes.
    "tiny": RIAEConfig(
        patch=4,
        grid=20,
        position_period=30.0,
        position_scale=3.0,
        encoder_dim=64,
        encoder_depth=2,
        encoder_heads=4,
        decoder_dim=64,
        decoder_depth=1,
        decoder_heads=4,
        fusion=(0,),
    ),
}


def preset(name: str, mask: Mask = "both") -> RIAEConfig:
    """The preset of that name with a masking mode.

    Raises:
        InputError: There is no such preset or mode.
    """
    if name not in PRESETS:
        raise InputError(f"no RIAE preset {name!r}; choose from {', '.join(PRESETS)}")
    return replace(PRESETS[name], mask=mask)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The choices of one pass, one entry per sample; the noise itself comes from `generator`."""

    rows: int  # patches
    columns: int
    division: Tensor  # B, SUBSETS, L: patch indices
    corner: Tensor  # B, 2: where in the position table the image lies
    image_step: Tensor  # B: diffusion step t of the image noise
    feature_step: Tensor  # B: likewise of the feature noise
    generator: Generator


class RIAE(nn.Module):
    """Rebuilds every quarter of an image's patches from the other three quarters.

    Only the parameters that the masking mode uses exist.
    """

    mean: Tensor
    std: Tensor
    signal: Tensor
    encoder_table: Tensor
    decoder_table: Tensor

    def __init__(self, config: RIAEConfig) -> None:
        super().__init__()
        self.config = config
        width, narrow, values = config.encoder_dim, config.decoder_dim, 3 * config.patch**2
        self.embedding = nn.Linear(values, width)
        self.class_token = nn.Parameter(torch.zeros(width))
        self.encoder = nn.ModuleList(Block(width, config.encoder_heads) for _ in range(config.encoder_depth))
        self.fusion = nn.ModuleList(nn.Linear(width, width) for _ in config.fusion)
        self.fusion_logits = nn.Parameter(torch.zeros(len(config.fusion) + 1))
        self.encoder_norm = nn.LayerNorm(width, eps=EPSILON)
        self.bridge = nn.Sequential(nn.Linear(width, narrow), nn.LayerNorm(narrow, eps=EPSILON))
        self.class_bridge = nn.Linear((SUBSETS - 1) * width, narrow)
        if config.mask == "occlusion":
            self.mask_token = nn.Parameter(torch.zeros(narrow))
        self.decoder = nn.ModuleList(Block(narrow, config.decoder_heads) for _ in range(config.decoder_depth))
        self.decoder_norm = nn.LayerNorm(narrow, eps=EPSILON)
        self.pixels = nn.Linear(narrow, values)
        self.smooth = nn.Conv2d(3, 3, 3, padding=1)
        self._add_constants()
        self.apply(_initialise)

    def _add_constants(self) -> None:
        """What is fixed and therefore in no checkpoint."""
        # DDPM's schedule: the share of signal that is left at step t (Ho et al. 2020, Eq. 4).
        signal = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0).float()
        grid = self.config.grid
        constants = {
            "mean": torch.tensor(MEAN).view(3, 1, 1),
            "std": torch.tensor(STD).view(3, 1, 1),
            "signal": signal,
            "encoder_table": self._table(grid, grid, self.config.encoder_dim),
            "decoder_table": self._table(grid, grid, self.config.decoder_dim),
        }
        for name, value in constants.items():
            self.register_buffer(name, value, persistent=False)

    def _table(self, rows: int, columns: int, dim: int) -> Tensor:
        """Positions (rows, columns, dim)."""
        return self.config.position_scale * position_table(rows, columns, dim, self.config.position_period)

    @classmethod
    def from_pretrained(cls, path: str | Path) -> "RIAE":
        """Load a checkpoint (see `impure.purifier.checkpoint.load_riae`)."""
        from impure.purifier.checkpoint import load_riae  # it imports this module

        return load_riae(Path(path))

    def forward(self, images: Tensor, generator: Generator) -> Tensor:
        """Purify for training: random dividing, position window and noise levels.

        Args:
            images: RGB in [0,1] (B, 3, H, W); both sides multiples of `config.multiple`.
            generator: Source of every random choice, on the images' device.

        Returns:
            The reconstruction (B, 3, H, W) in normalised space, not clamped.

        Raises:
            InputError: A side is no multiple of `config.multiple`.
        """
        rebuilt: Tensor = self.smooth(self.rebuild(images, self._training_plan(images, generator)))
        return rebuilt

    def purify(
        self,
        images: Tensor,
        *,
        seed: int | Generator = 0,
        draws: int = 1,
        dividing: Dividing = "uniform",
    ) -> Tensor:
        """Purify images of any size; differentiable, so call it under `no_grad` where no gradient is needed.

        Args:
            images: RGB in [0,1] (B, 3, H, W). Sides that are no multiple of `config.multiple` are
                reflected to the right and below, and cropped back.
            seed: Of the noise: the same seed gives the same output on a CPU. A generator goes on instead.
            draws: How many purifications to average.
            dividing: `uniform` (the paper's choice for tests) or `random`.

        Returns:
            RGB clamped to [0,1] (B, 3, H, W).

        Raises:
            InputError: `draws` is below 1, or `dividing` is unknown.
        """
        if draws < 1 or dividing not in get_args(Dividing):
            raise InputError(
                f"purify: draws {draws} must be at least 1, dividing {dividing!r} uniform or random"
            )
        generator = seed if isinstance(seed, Generator) else Generator(images.device).manual_seed(seed)
        padded = reflect_pad(images, self.config.multiple)
        total = torch.zeros_like(images)
        for _ in range(draws):
            plan = self._test_plan(padded, generator, dividing)
            purified = self.denormalise(self.smooth(self.rebuild(padded, plan)))
            total = total + purified[..., : images.shape[2], : images.shape[3]].clamp(0, 1)
        return total / draws

    def normalise(self, images: Tensor) -> Tensor:
        """From [0,1] to the space in which the network works and the pixel loss is taken."""
        return (images - self.mean) / self.std

    def denormalise(self, images: Tensor) -> Tensor:
        """The inverse of `normalise`."""
        return images * self.std + self.mean

    def rebuild(self, images: Tensor, plan: Plan) -> Tensor:
        """Everything before the last convolution, which alone mixes neighbouring patches.

        Args:
            images: RGB in [0,1] (B, 3, H, W).
            plan: The choices of this pass.

        Returns:
            The reconstruction (B, 3, H, W) in normalised space.
        """
        config = self.config
        height, width = images.shape[2:]
        patches = take(patchify(self.normalise(images), config.patch), plan.division)  # B, S, L, 3pp
        tokens, classes, masked = self._encode(patches, plan)  # B, S, L, d;  B, S, D;  B, S, L, d
        positions = self._positions(self.decoder_table, plan)  # B, S, L, d
        rebuilt = self._decode(tokens + positions, classes, masked + positions)  # B, S, L, d
        values = put_back(self.pixels(self.decoder_norm(rebuilt)), plan.division)  # B, N, 3pp
        return unpatchify(values, config.patch, height, width)

    def _encode(self, patches: Tensor, plan: Plan) -> tuple[Tensor, Tensor, Tensor]:
        """Encode every subset by itself.

        Returns:
            The decoder's visible tokens (B, S, L, d), the encoder's class tokens (B, S, D), and the tokens
            that stand in a subset's place where it is to be rebuilt (B, S, L, d).
        """
        mask, batch = self.config.mask, len(patches)
        positions = self._positions(self.encoder_table, plan)
        if mask in ("image-noise", "both"):  # clean and noisy image in one batch
            noisy = self._diffuse(patches, plan.image_step, plan.generator)
            patches, positions = torch.cat([patches, noisy]), torch.cat([positions, positions])
        encoded = self._encoder(self.embedding(patches) + positions)  # B or 2B, S, L + 1, D
        first, others = encoded.split([1, encoded.shape[2] - 1], dim=2)
        tokens, *noisy_tokens = self.bridge(others).split(batch)
        masked = noisy_tokens[0] if noisy_tokens else tokens
        if mask == "occlusion":
            masked = self.mask_token.expand_as(tokens)
        if mask in ("feature-noise", "both"):
            masked = self._diffuse(masked, plan.feature_step, plan.generator)
        return tokens, first[:batch, :, 0], masked

    def _encoder(self, tokens: Tensor) -> Tensor:
        """Tokens (B, S, L, D) to fused features (B, S, L + 1, D); the class token comes first."""
        first = self.class_token.expand(*tokens.shape[:2], 1, -1)
        features = torch.cat([first, tokens], dim=2).flatten(0, 1)  # B * S, L + 1, D
        shares = self.fusion_logits.softmax(0)
        fused = torch.zeros_like(features)
        for index, block in enumerate(self.encoder):
            features = block(features)
            if index in self.config.fusion:
                level = self.config.fusion.index(index)
                fused = fused + shares[level] * self.fusion[level](features)
        normed: Tensor = self.encoder_norm(fused + shares[-1] * features)
        return normed.view(*tokens.shape[:2], *normed.shape[1:])

    def _decode(self, tokens: Tensor, classes: Tensor, masked: Tensor) -> Tensor:
        """Decode S copies, in copy i subset i masked, and keep subset i of copy i: (B, S, L, d).

        The order of tokens means nothing to attention (positions are in them), so each copy begins with the
        tokens that are kept, and the last block computes nothing else.
        """
        batch, subsets, length, _ = tokens.shape
        visible, firsts = tokens.unbind(1), classes.unbind(1)
        copies = []
        for kept, hidden in enumerate(masked.unbind(1)):
            others = [index for index in range(subsets) if index != kept]
            first = self.class_bridge(torch.cat([firsts[index] for index in others], dim=-1))[:, None]
            copies.append(torch.cat([hidden, first, *(visible[index] for index in others)], dim=1))
        features = torch.stack(copies, dim=1).flatten(0, 1)  # B * S, N + 1, d
        for index, block in enumerate(self.decoder):
            last = index == len(self.decoder) - 1
            features = block(features, keep=length if last else None)
        return features.view(batch, subsets, *features.shape[1:])

    def _diffuse(self, values: Tensor, step: Tensor, generator: Generator) -> Tensor:
        """Add noise to values (B, ...): sqrt(signal_t) x + sqrt(1 - signal_t) n (Ho et al. 2020, Eq. 4)."""
        noise = torch.randn(values.shape, generator=generator, device=values.device, dtype=values.dtype)
        signal = self.signal[step].view(-1, *[1] * (values.dim() - 1)).to(values.dtype)
        return signal.sqrt() * values + (1 - signal).sqrt() * noise

    def _positions(self, table: Tensor, plan: Plan) -> Tensor:
        """Positions (B, S, L, D) of the divided patches; an image larger than the table gets a larger one."""
        rows, columns = max(plan.rows, table.shape[0]), max(plan.columns, table.shape[1])
        if (rows, columns) != table.shape[:2]:
            table = self._table(rows, columns, table.shape[2]).to(table)
        return window_positions(table, plan.division, plan.corner, plan.columns)

    def _grid(self, images: Tensor) -> tuple[int, int, int, int]:
        """Rows and columns of patches, and how far the window can move in the table."""
        height, width = images.shape[2:]
        if height % self.config.multiple or width % self.config.multiple:
            raise InputError(
                f"RIAE: {height}x{width} pixels are no multiples of {self.config.multiple}; crop or pad"
            )
        rows, columns = height // self.config.patch, width // self.config.patch
        return rows, columns, max(self.config.grid - rows, 0), max(self.config.grid - columns, 0)

    def _training_plan(self, images: Tensor, generator: Generator) -> Plan:
        """Everything at random, for each sample by itself, drawn on the generator's device."""
        rows, columns, *room = self._grid(images)
        batch = len(images)

        def draw(low: int, high: int) -> Tensor:
            return torch.randint(low, high, (batch,), generator=generator, device=generator.device)

        return Plan(
            rows=rows,
            columns=columns,
            division=random_division(batch, rows * columns, generator),
            corner=torch.stack([draw(0, free + 1) for free in room], dim=1),
            image_step=draw(*IMAGE_STEPS),
            feature_step=draw(*FEATURE_STEPS),
            generator=generator,
        )

    def _test_plan(self, images: Tensor, generator: Generator, dividing: Dividing) -> Plan:
        """The centred window and the noise levels of the test."""
        rows, columns, *room = self._grid(images)
        batch, device = len(images), images.device
        if dividing == "uniform":
            division = uniform_division(batch, rows, columns, device)
        else:
            division = random_division(batch, rows * columns, generator)
        return Plan(
            rows=rows,
            columns=columns,
            division=division,
            corner=torch.tensor([free // 2 for free in room], device=device).expand(batch, 2),
            image_step=torch.full((batch,), IMAGE_STEP, device=device),
            feature_step=torch.full((batch,), FEATURE_STEP, device=device),
            generator=generator,
        )


def _initialise(module: nn.Module) -> None:
    """Xavier for linear layers, small normal tokens, and a last convolution that begins as the identity."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        nn.init.dirac_(module.weight)
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    elif isinstance(module, RIAE):
        nn.init.normal_(module.class_token, std=0.02)
        if module.config.mask == "occlusion":
            nn.init.normal_(module.mask_token, std=0.02)
