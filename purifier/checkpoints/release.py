"""Loads a checkpoint of the paper's release as a RIAE."""

from pathlib import Path
from typing import Any

from impure.manifests.base.errors import InputError
from impure.pipeline.targets.weights import load_strictly
from impure.purifier.checkpoints.foreign import SCHEDULE, read_tensors, release_sizes, riae_weights
from impure.purifier.riae.model import RIAE
from impure.purifier.riae.riae_config import Mask, RIAEConfig

_MASKS: dict[tuple[str, str], Mask] = {  # the release's img_mask and feature_mask
    ("mask", "mask"): "occlusion",
    ("noise", "mask"): "image-noise",
    ("mask", "noise"): "feature-noise",
    ("noise", "noise"): "both",
}


def from_release(path: Path, mask: Mask | None = None) -> RIAE:
    """Load a checkpoint of the paper's release as a RIAE.

    It computes what the release computes at test time from the same noise (see `checkpoints.foreign`). That a
    model was trained without the last convolution (no `--use_conv`) cannot be seen from its file.

    Args:
        path: The `.pth` file: a dict with the weights as "model". No code in it is run.
        mask: The masking mode it was trained for; None where the file says so.

    Returns:
        The purifier, on the CPU, in eval mode.

    Raises:
        InputError: The file cannot be read, a tensor is missing, unexpected, wrongly shaped or not finite,
            RIAE has no counterpart to the network, or the masking mode is neither given nor stored, or the
            two differ.
    """
    weights, args = read_tensors(path)
    sizes = release_sizes(weights, path)
    config = RIAEConfig(
        **sizes, padding="zeros", mask=_masking(mask, args, noise=SCHEDULE[0] in weights, path=path)
    )
    parameters = riae_weights(weights, config, path)
    if config.mask != "occlusion":  # their file holds a token that nothing reads
        del parameters["mask_token"]
    model = RIAE(config)
    load_strictly(model, parameters, str(path))
    return model.eval()


def _masking(asked: Mask | None, args: Any, *, noise: bool, path: Path) -> Mask:
    """The masking mode: from the user, the stored arguments, or the lack of a noise schedule."""
    stored = _MASKS.get((str(getattr(args, "img_mask", "")), str(getattr(args, "feature_mask", ""))))
    stored = stored or (None if noise else "occlusion")
    mask = asked or stored
    if mask is None:
        raise InputError(f"{path}: does not tell its masking mode; name it (the paper's method is both)")
    if mask != (stored or mask) or noise == (mask == "occlusion"):
        raise InputError(
            f"{path}: {mask} is not the masking mode of this file ({stored or 'one with noise'})"
        )
    return mask
