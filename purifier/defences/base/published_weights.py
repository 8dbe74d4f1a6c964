"""Weights that others published: where they are, under which licence, and what is known of their digest."""

from dataclasses import dataclass
from pathlib import Path

import torch

from impure.manifests.base.errors import InputError, first_line
from impure.manifests.base.files import sha256_file
from impure.manifests.commands.console import say

PUBLISHED = "published"  # DEFENCE:weights=published


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedWeights:
    """A file of weights.

    Attributes:
        address: Of the file; or of the page that has it, where it is downloaded by hand.
        licence: Of the repository that publishes it.
        sha256: The digest, or its beginning, as far as it is known; "" for nothing.
        by_hand: Whether no program can download it from there.
    """

    address: str
    licence: str
    sha256: str = ""
    by_hand: bool = False

    def __str__(self) -> str:
        known = f"sha256 {self.sha256}" if self.sha256 else "no digest known"
        return f"{self.address} ({self.licence}, {known}{'…' if 0 < len(self.sha256) < 64 else ''})"


#: By the name of the defence that takes them.
PUBLISHED_WEIGHTS = {
    # The digest's beginning is in the name, as PyTorch's hub has it; the licence is the program's.
    "wavelet-sr": PublishedWeights(
        address="https://cv.snu.ac.kr/research/EDSR/models/edsr_baseline_x2-1bc95232.pt",
        licence="MIT",
        sha256="1bc95232",
    ),
    "nrp": PublishedWeights(
        address="https://drive.google.com/file/d/1qWqUS9MKGLC5GxQiqqZsw7z72XCSB8Oc/view",
        licence="MIT",
        by_hand=True,
    ),
}


def published_file(defence: str) -> Path:
    """The file of a defence's published weights, from PyTorch's cache or downloaded; its digest is verified.

    Says on standard error where they are from before anything is done.

    Raises:
        InputError: The authors publish none, they cannot be had, or the file is another one.
    """
    if defence not in PUBLISHED_WEIGHTS:
        names = ", ".join(PUBLISHED_WEIGHTS)
        raise InputError(f"no published weights of {defence!r} are known; there are some of {names}")
    weights = PUBLISHED_WEIGHTS[defence]
    say(f"{defence}: weights {weights}")
    if weights.by_hand:
        raise InputError(
            f"{defence}: download them in a browser from {weights.address}, then give {defence}:weights=FILE"
        )
    file = Path(torch.hub.get_dir()) / "checkpoints" / weights.address.rsplit("/", 1)[1]
    if not file.exists():
        _download(weights, file, defence)
    if not (digest := sha256_file(file)).startswith(weights.sha256):
        raise InputError(f"{file}: refused, its sha256 is {digest}, not {weights.sha256}…; delete it")
    return file


def _download(weights: PublishedWeights, file: Path, defence: str) -> None:
    """Bring the file; it appears whole or not at all.

    Raises:
        InputError: It cannot be had, or has another digest.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(weights.address, str(file), weights.sha256, progress=False)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{defence}: its weights cannot be had from {weights.address} ({first_line(error)}); download "
            f"them elsewhere and give {defence}:weights=FILE"
        ) from error
