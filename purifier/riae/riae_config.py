"""What a RIAE looks like: its sizes, its masking mode, its decoder."""

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

from impure.manifests.base.errors import InputError

Mask = Literal["occlusion", "image-noise", "feature-noise", "both"]
DecoderKind = Literal["copies", "cross"]
Padding = Literal["reflect", "zeros"]

IMAGE_NOISE: tuple[Mask, ...] = ("image-noise", "both")  # modes that encode a noisy image as well
FEATURE_NOISE: tuple[Mask, ...] = ("feature-noise", "both")  # modes that add noise to the decoder's tokens
TILES = {2: 2, 3: 3, 4: 2}  # subsets -> patches along each side of the tile of the uniform partition
NOISE_STEPS = 1000  # of the diffusion schedule

_CHOICES: dict[str, tuple[object, ...]] = {
    "mask": get_args(Mask),
    "decoder": get_args(DecoderKind),
    "padding": get_args(Padding),
    "subsets": tuple(TILES),
}


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
    decoder: DecoderKind = "copies"  # the paper's; `cross` costs a quarter (see `riae.decoders`)
    subsets: int = 4  # that an image's patches are divided into; S of the paper's section 3.2.1
    padding: Padding = "reflect"  # of sides that are no multiple; zeros: black, as the authors pad 299 to 320
    image_step: int = 400  # diffusion step of the image noise at test time; 400 and 600 are the authors'
    feature_step: int = 600  # diffusion step of the feature noise at test time

    def __post_init__(self) -> None:
        self._check_sizes()
        if any(not 0 <= block < self.encoder_depth - 1 for block in self.fusion):
            raise InputError(
                f"RIAE: fusion {self.fusion} must name blocks before the last of {self.encoder_depth}"
            )
        for name in ("image_step", "feature_step"):
            if not 0 <= getattr(self, name) < NOISE_STEPS:
                raise InputError(
                    f"RIAE: {name} is {getattr(self, name)}; it must be from 0 to {NOISE_STEPS - 1}"
                )
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                names = ", ".join(map(str, known))
                raise InputError(f"RIAE: {name} {getattr(self, name)!r} is unknown; choose from {names}")

    def _check_sizes(self) -> None:
        """Refuse sizes that no network can have."""
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

    @property
    def multiple(self) -> int:
        """Both sides of an image must be multiples of this many pixels."""
        return TILES[self.subsets] * self.patch

    @property
    def values(self) -> int:
        """Numbers in a patch of an RGB image."""
        return 3 * self.patch**2


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


def preset(name: str, mask: Mask = "both", decoder: DecoderKind = "copies", subsets: int = 4) -> RIAEConfig:
    """The preset of that name with a masking mode, a decoder and a number of subsets.

    Raises:
        InputError: There is no such preset, mode or decoder, or the number is impossible.
    """
    if name not in PRESETS:
        raise InputError(f"no RIAE preset {name!r}; choose from {', '.join(PRESETS)}")
    return replace(PRESETS[name], mask=mask, decoder=decoder, subsets=subsets)
