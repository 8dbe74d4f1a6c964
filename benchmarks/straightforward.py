"""RIAE in the plainest form: one pass per image and per copy, every token through every block.

Written with timm's blocks, independent of `impure.purifier` but for the names and shapes of its weights: the
rival of `train.py` and the reference of the tests.
"""

from functools import partial

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

LayerNorm = partial(nn.LayerNorm, eps=1e-6)
FUSED = (0, 2, 4, 6, 8)


def sinusoids(side: int, dim: int) -> Tensor:
    """Positions (side, side, dim): sines and cosines of the column, then of the row."""
    table = torch.zeros(side, side, dim)
    quarter = dim // 4
    for k in range(quarter):
        angle = torch.arange(side) / 10000.0 ** (k / quarter)
        table[:, :, k], table[:, :, quarter + k] = angle.sin(), angle.cos()
        table[:, :, 2 * quarter + k] = angle.sin()[:, None]
        table[:, :, 3 * quarter + k] = angle.cos()[:, None]
    return table


class Straightforward(nn.Module):
    """RIAE with masking mode `both`; takes the weights of `impure.purifier.riae.model.RIAE`."""

    def __init__(
        self, *, patch: int = 16, grid: int = 28, width: int = 768, depth: int = 12, heads: int = 12,
        narrow: int = 512, decoder_depth: int = 8, decoder_heads: int = 16, fused: tuple[int, ...] = FUSED,
    ) -> None:  # fmt: skip
        super().__init__()
        self.patch, self.fused = patch, fused
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, width, patch, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        block = partial(Block, qkv_bias=True, norm_layer=LayerNorm)
        self.blocks = nn.ModuleList(block(width, heads) for _ in range(depth))
        self.proj_layers = nn.ModuleList(nn.Linear(width, width) for _ in fused)
        self.proj_weights = nn.Parameter(torch.zeros(len(fused) + 1, 1, 1, 1))
        self.norm = LayerNorm(width)
        self.decoder_embed = nn.Linear(width, narrow)
        self.decoder_embed_norm = LayerNorm(narrow)
        self.decoder_head_embed = nn.Linear(3 * width, narrow)
        self.decoder_blocks = nn.ModuleList(block(narrow, decoder_heads) for _ in range(decoder_depth))
        self.decoder_norm = LayerNorm(narrow)
        self.decoder_pred = nn.Linear(narrow, 3 * patch * patch)
        self.decoder_rb1 = nn.Conv2d(3, 3, 3, padding=1)
        self.register_buffer("encoder_positions", sinusoids(grid, width), persistent=False)
        self.register_buffer("decoder_positions", sinusoids(grid, narrow), persistent=False)

    def noisy(self, values: Tensor, step: Tensor, noise: Tensor) -> Tensor:
        """DDPM's noise at a step for each sample."""
        kept = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0).to(values)
        kept = kept[step].reshape(-1, 1, 1, 1)
        return kept.sqrt() * values + (1 - kept).sqrt() * noise

    def embed(self, patches: Tensor) -> Tensor:
        """Tokens (B, L, D) of patches (B, L, 3pp): their values come by row, column, colour."""
        kernel = self.patch_embed.proj
        return nn.functional.linear(patches, kernel.weight.permute(0, 2, 3, 1).flatten(1), kernel.bias)

    def narrow(self, features: Tensor) -> Tensor:
        """The encoder's features (B, L, D) as the decoder reads them (B, L, d)."""
        return self.decoder_embed_norm(self.decoder_embed(features))

    def encode(self, patches: Tensor, positions: Tensor) -> Tensor:
        """Encode one subset's patches (B, L, 3pp): tokens (B, L + 1, D), the class token first."""
        first = self.cls_token.expand(len(patches), 1, -1)
        tokens = torch.cat([first, self.embed(patches) + positions], 1)
        levels = []
        for number, block in enumerate(self.blocks):
            tokens = block(tokens)
            if number in self.fused:
                levels.append(self.proj_layers[len(levels)](tokens))
        weights = torch.softmax(self.proj_weights.flatten(), 0)
        mixed = sum(weight * level for weight, level in zip(weights, [*levels, tokens], strict=True))
        return self.norm(mixed)

    def forward(self, images: Tensor, randomness: tuple[Tensor, ...]) -> Tensor:
        """Rebuild images (B, 3, H, W) in [0,1] with the choices of a `Randomness` (see `riae.noise`)."""
        partition, corner, image_step, feature_step, image_noise, feature_noise = randomness
        batch, subsets, length = partition.shape
        mean = torch.tensor([0.485, 0.456, 0.406], device=images.device).view(3, 1, 1)
        std = torch.tensor([0.229, 0.224, 0.225], device=images.device).view(3, 1, 1)
        p, (height, width) = self.patch, images.shape[2:]
        columns = width // p
        cut = ((images - mean) / std).unfold(2, p, p).unfold(3, p, p)  # B, 3, rows, columns, p, p
        patches = cut.permute(0, 2, 3, 4, 5, 1).reshape(batch, -1, 3 * p * p)
        sample = torch.arange(batch, device=images.device)[:, None, None]
        parts = patches[sample, partition]  # B, S, L, 3pp
        row = partition // columns + corner[:, 0, None, None]
        column = partition % columns + corner[:, 1, None, None]
        wide_positions = self.encoder_positions[row, column]
        narrow_positions = self.decoder_positions[row, column]
        noisy = self.noisy(parts, image_step, image_noise)
        clean = [self.encode(parts[:, s], wide_positions[:, s]) for s in range(subsets)]
        other = [self.encode(noisy[:, s], wide_positions[:, s]) for s in range(subsets)]
        shown = torch.stack([self.narrow(tokens[:, 1:]) for tokens in clean], 1)  # B, S, L, d
        hidden = torch.stack([self.narrow(tokens[:, 1:]) for tokens in other], 1)
        hidden = self.noisy(hidden, feature_step, feature_noise)
        rebuilt = torch.empty_like(patches)
        for mine in range(subsets):
            rest = [s for s in range(subsets) if s != mine]
            tokens = torch.stack([hidden[:, s] if s == mine else shown[:, s] for s in range(subsets)], 1)
            first = self.decoder_head_embed(torch.cat([clean[s][:, 0] for s in rest], -1))
            tokens = torch.cat([first[:, None], (tokens + narrow_positions).flatten(1, 2)], 1)
            for block in self.decoder_blocks:
                tokens = block(tokens)
            values = self.decoder_pred(
                self.decoder_norm(tokens[:, 1 + mine * length : 1 + (mine + 1) * length])
            )
            rebuilt = rebuilt.scatter(1, partition[:, mine, :, None].expand_as(values), values)
        grid = rebuilt.view(batch, height // p, columns, p, p, 3)
        return self.decoder_rb1(grid.permute(0, 5, 1, 3, 2, 4).reshape(batch, 3, height, width))
