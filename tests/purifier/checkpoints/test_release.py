"""The paper's release is rebuilt here from facts about it, to check conversions against."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from impure.manifests.base.errors import InputError
from impure.purifier.checkpoints.release import from_release
from impure.purifier.riae.noise import Randomness
from impure.purifier.riae.riae_config import RIAEConfig

MASKS = ("occlusion", "image-noise", "feature-noise", "both")

PATCH, WIDE, NARROW = 4, 128, 64  # heads of 64 and 32 channels: two each

NOISES = {
    "occlusion": ("mask", "mask"),
    "image-noise": ("noise", "mask"),
    "feature-noise": ("mask", "noise"),
    "both": ("noise", "noise"),
}


CONFIG = RIAEConfig(
    patch=PATCH, grid=8, encoder_dim=WIDE, encoder_depth=4, encoder_heads=2, decoder_dim=NARROW,
    decoder_depth=2, decoder_heads=2, fusion=(0, 2),
)  # fmt: skip


def positions(side: int, dim: int) -> Tensor:
    """(1, 1 + side * side, dim): the class token's zeros; column's sines and cosines, then the row's."""
    rows = [np.zeros(dim)]
    for row in range(side):
        for column in range(side):
            rate = 10000.0 ** -(np.arange(dim // 4) / (dim // 4))
            parts = [wave(place * rate) for place in (column, row) for wave in (np.sin, np.cos)]
            rows.append(np.concatenate(parts))
    return torch.from_numpy(np.stack(rows)).float()[None]


class Theirs(nn.Module):
    """The release's network by its parameter names, one image at a time, patches in their natural order."""

    def __init__(self, mask: str, side: int = 8) -> None:
        super().__init__()
        self.mask, self.side = mask, side
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, WIDE, PATCH, PATCH)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDE))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, NARROW))
        self.pos_embed = nn.Parameter(positions(side, WIDE), requires_grad=False)
        self.decoder_pos_embed = nn.Parameter(positions(side, NARROW), requires_grad=False)
        norm = {"norm_layer": partial(nn.LayerNorm, eps=1e-6), "qkv_bias": True}
        self.blocks = nn.ModuleList(Block(WIDE, 2, **norm) for _ in range(4))
        self.norm = nn.LayerNorm(WIDE, eps=1e-6)
        self.proj_layers = nn.ModuleList(nn.Linear(WIDE, WIDE) for _ in range(2))
        self.proj_weights = nn.Parameter(torch.ones(3, 1, 1, 1))
        self.decoder_head_embed = nn.Linear(3 * WIDE, NARROW)
        self.decoder_embed = nn.Linear(WIDE, NARROW)
        self.decoder_embed_norm = nn.LayerNorm(NARROW, eps=1e-6)
        self.decoder_blocks = nn.ModuleList(Block(NARROW, 2, **norm) for _ in range(2))
        self.decoder_norm = nn.LayerNorm(NARROW, eps=1e-6)
        self.decoder_pred = nn.Linear(NARROW, 3 * PATCH * PATCH)
        self.decoder_rb1 = nn.Conv2d(3, 3, 3, padding=1)
        if mask != "occlusion":
            left = torch.cumprod(1.0 - torch.linspace(0.0001, 0.02, 1000), dim=0)
            self.sqrt_alphas_cumprod = nn.Parameter(left.sqrt(), requires_grad=False)
            self.sqrt_one_minus_alphas_cumprod = nn.Parameter((1.0 - left).sqrt(), requires_grad=False)
        for weight in self.parameters():
            if weight.requires_grad:
                nn.init.normal_(weight, std=0.3 if weight.dim() < 2 else 0.1)

    def window(self, table: Tensor, count: int) -> Tensor:
        """The centred part of a position table: it begins at half of the free places plus one."""
        here = int(count**0.5)
        begin = (self.side - here + 1) // 2
        grid = table[0, 1:].view(self.side, self.side, -1)
        return grid[begin : begin + here, begin : begin + here].flatten(0, 1)

    def diffuse(self, x: Tensor, step: int, noise: Tensor) -> Tensor:
        return self.sqrt_alphas_cumprod[step] * x + self.sqrt_one_minus_alphas_cumprod[step] * noise

    def encode(self, image: Tensor, subsets: Tensor) -> tuple[list[Tensor], Tensor]:
        """Class tokens, one a subset, and patch tokens in their natural order (N, NARROW)."""
        embedded = self.patch_embed.proj(image[None])[0].flatten(1).T
        embedded = embedded + self.window(self.pos_embed, len(embedded))
        classes, tokens = [], torch.zeros(len(embedded), WIDE)
        for subset in subsets:
            x = torch.cat([self.cls_token + self.pos_embed[:, :1], embedded[subset][None]], dim=1)
            levels = []
            for index, block in enumerate(self.blocks):
                x = block(x)
                if index in (0, 2):
                    levels.append(self.proj_layers[index // 2](x))
            shares = self.proj_weights.softmax(0)
            x = self.norm(sum(share * level for share, level in zip(shares, [*levels, x], strict=True)))[0]
            classes.append(x[0])
            tokens[subset] = x[1:]
        return classes, self.decoder_embed_norm(self.decoder_embed(tokens))

    def rebuild(self, image: Tensor, subsets: Tensor, image_noise: Tensor, feature_noise: Tensor) -> Tensor:
        """image (3, H, W) in [0,1]; noises in natural order: an image (3, H, W), tokens (N, NARROW)."""
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        image = (image - mean[:, None, None]) / std[:, None, None]
        classes, tokens = self.encode(image, subsets)
        masked = tokens
        if self.mask in ("image-noise", "both"):
            masked = self.encode(self.diffuse(image, 400, image_noise), subsets)[1]
        if self.mask in ("feature-noise", "both"):
            masked = self.diffuse(masked, 600, feature_noise)
        if self.mask == "occlusion":
            masked = self.mask_token[0].expand_as(tokens)
        result = torch.zeros_like(tokens)
        for index, subset in enumerate(subsets):
            x = tokens.clone()
            x[subset] = masked[subset]
            x = x + self.window(self.decoder_pos_embed, len(x))
            others = torch.cat([each for place, each in enumerate(classes) if place != index])
            first = self.decoder_head_embed(others)[None] + self.decoder_pos_embed[0, :1]
            x = torch.cat([first, x])[None]
            for block in self.decoder_blocks:
                x = block(x)
            result[subset] = self.decoder_norm(x[0, 1:])[subset]
        return self.decoder_rb1(image_of(self.decoder_pred(result), image.shape[1])[None])[0]


def image_of(patches: Tensor, height: int) -> Tensor:
    """Patches (N, row-column-colour values) of a square image as (3, H, W)."""
    side = height // PATCH
    image = torch.zeros(3, height, height)
    for index, patch in enumerate(patches):
        top, left = PATCH * (index // side), PATCH * (index % side)
        image[:, top : top + PATCH, left : left + PATCH] = patch.view(PATCH, PATCH, 3).permute(2, 0, 1)
    return image


def natural(noise: Tensor, subsets: Tensor) -> Tensor:
    """Noise by subsets (S, L, D) in the patches' natural order."""
    flat = torch.zeros(subsets.numel(), noise.shape[-1])
    flat[subsets.flatten()] = noise.flatten(0, 1)
    return flat


def expected(theirs: Theirs, images: Tensor, randomness: Randomness) -> Tensor:
    results = []
    for index, image in enumerate(images):
        subsets, none = randomness.partition[index], torch.zeros(())
        seen = randomness.image_noise.numel() > 0
        noise = image_of(natural(randomness.image_noise[index], subsets), image.shape[1]) if seen else none
        seen = randomness.feature_noise.numel() > 0
        feature = natural(randomness.feature_noise[index], subsets) if seen else none
        results.append(theirs.rebuild(image, subsets, noise, feature))
    return torch.stack(results)


def release(
    tmp_path: Path, mask: str = "both", *, side: int = 8, args: bool = False, **changed: Any
) -> tuple[Path, Theirs]:
    """A file as the release writes it; `changed`: tensors that are other, or None for left out."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        theirs = Theirs(mask, side).eval()
    weights = {**theirs.state_dict(), **{name.replace("__", "."): value for name, value in changed.items()}}
    content: dict[str, Any] = {"model": {name: value for name, value in weights.items() if value is not None}}
    if args:
        image, feature = NOISES[mask]
        content["args"] = argparse.Namespace(img_mask=image, feature_mask=feature, crop_size=[192, 256])
        content |= {"optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]}, "epoch": 3}
    torch.save(content, tmp_path / "release.pth")
    return tmp_path / "release.pth", theirs


@pytest.mark.parametrize("partition", ["uniform", "random"])
@pytest.mark.parametrize("mask", MASKS)
@torch.no_grad()
def test_computes_what_the_release_computes(tmp_path: Path, mask: str, partition: str) -> None:
    path, theirs = release(tmp_path, mask, args=True)
    riae = from_release(path)
    assert riae.config.mask == mask and not riae.training
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    randomness = riae.draw_test(images, torch.Generator().manual_seed(2), partition)  # type: ignore[arg-type]
    torch.testing.assert_close(
        riae(images, randomness), expected(theirs, images, randomness), atol=1e-5, rtol=1e-5
    )


@torch.no_grad()
def test_sides_are_padded_with_black_as_the_release_pads_299_to_320(tmp_path: Path) -> None:
    path, theirs = release(tmp_path, "occlusion", args=True)
    riae = from_release(path)
    images = torch.rand(1, 3, 13, 16, generator=torch.Generator().manual_seed(1))
    black = torch.cat([images, torch.zeros(1, 3, 3, 16)], 2)
    randomness = riae.draw_test(black, torch.Generator().manual_seed(2))
    wanted = riae.denormalise(expected(theirs, black, randomness))[..., :13, :].clamp(0, 1)
    torch.testing.assert_close(riae.purify(images, seed=2), wanted, atol=1e-5, rtol=1e-5)
    assert riae.config.padding == "zeros" and RIAEConfig().padding == "reflect"


def test_an_odd_position_table_is_refused(tmp_path: Path) -> None:
    path, _ = release(tmp_path, side=7)
    with pytest.raises(InputError, match="pos_embed has 7 positions a side: RIAE needs an even number"):
        from_release(path, "both")


def test_masking_mode_must_be_told_and_not_in_two_ways(tmp_path: Path) -> None:
    path, _ = release(tmp_path)
    with pytest.raises(InputError, match="does not tell its masking mode; name it"):
        from_release(path)
    assert from_release(path, "image-noise").config.mask == "image-noise"
    with pytest.raises(InputError, match=r"occlusion is not the masking mode of this file \(one with noise"):
        from_release(path, "occlusion")
    path, _ = release(tmp_path, "occlusion")
    assert from_release(path).config.mask == "occlusion"
    with pytest.raises(InputError, match=r"both is not the masking mode of this file \(occlusion"):
        from_release(path, "both")
    path, _ = release(tmp_path, "feature-noise", args=True)
    with pytest.raises(InputError, match=r"both is not .*\(feature-noise"):
        from_release(path, "both")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"decoder_rb1__bias": None}, r"1 missing: decoder_rb1\.bias"),
        ({"blocks__1__attn__qkv__bias": None}, r"missing: blocks\.1\.attn\.qkv\.bias"),
        ({"sqrt_one_minus_alphas_cumprod": None}, "missing: sqrt_one_minus_alphas_cumprod"),
        ({"pos_embed": None}, "has no tensor pos_embed"),
        ({"loss_params": torch.ones(3)}, r"1 unexpected: loss_params"),
        ({"norm__weight": torch.ones(5)}, r"norm\.weight \(5,\), not \(128,\)"),
        ({"mask_token": torch.ones(1, 1, 65)}, r"mask_token \(1, 1, 65\), not \(1, 1, 64\)"),
        ({"proj_weights": torch.ones(3)}, r"proj_weights has shape \(3,\), not 4 dimensions"),
        ({"decoder_pos_embed": torch.ones(3)}, r"decoder_pos_embed \(3,\), not \(1, 65, 64\)"),
        ({"decoder_pos_embed": torch.ones(1, 50, NARROW)}, r"decoder_pos_embed \(1, 50, 64\), not"),
        ({"decoder_pos_embed": positions(8, NARROW).flip(2)}, "decoder_pos_embed is not what RIAE computes"),
        ({"pos_embed": positions(8, WIDE).flip(1)}, "pos_embed is not what RIAE computes"),
        ({"sqrt_alphas_cumprod": torch.ones(1000)}, "sqrt_alphas_cumprod is not what RIAE computes"),
        ({"norm__bias": torch.full((WIDE,), torch.nan)}, r"hold NaN or infinity, the first is norm\.bias"),
        (
            {"decoder_head_embed__weight": torch.ones(NARROW, 5 * WIDE)},
            "reads 640 numbers, not 1, 2 or 3 times 128",
        ),
        ({"patch_embed__proj__weight": torch.ones(30, 3, 4, 4)}, "384 numbers, not 1, 2 or 3 times 30"),
        ({"patch_embed__proj__weight": torch.ones(0, 3, 4, 4)}, "384 numbers, not 1, 2 or 3 times 0"),
        ({"norm__bias": torch.ones(WIDE, dtype=torch.int64)}, "norm.bias holds no floating-point numbers"),
        ({"pos_embed": torch.ones(1).expand(1, 1 + 300**2, WIDE)}, "grid is 300; a number up to 256"),
        ({"norm__bias": torch.ones(1).expand(1 << 40)}, r"norm\.bias \(1099511627776,\), not"),
    ],
)
def test_strict(tmp_path: Path, changed: dict[str, Tensor | None], message: str) -> None:
    path, _ = release(tmp_path, **changed)
    with pytest.raises(InputError, match=message):
        from_release(path, "both")
