"""What a classifier predicts for images, and how predictions of several samples are combined."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from impure.manifests.collection.shard_id import CLEAN
from impure.pipeline.tensors import to_float
from impure.purifier.data.pair_reader import PairReader
from impure.purifier.data.pairs import Pair
from impure.purifier.defences.base.classify import Classifier
from impure.purifier.evaluation.evaluate_config import Combine

NO_CLASS = -1  # predicted where an image or its largest logit is not finite: always wrong


class Loaded(NamedTuple):
    """A batch on the device: images in [0,1] (B, 3, H, W), the stored bytes over 255, and labels (B,)."""

    clean: Tensor
    attacked: Tensor
    labels: Tensor


def load(reader: PairReader, batch: Sequence[Pair], attack: str, device: torch.device) -> Loaded:
    """Read a batch of one image size.

    Raises:
        InputError: See `PairReader.read`.
    """
    labels = torch.tensor([pair.label for pair in batch], device=device)
    if attack == CLEAN:
        clean = _to_device([reader.clean(pair) for pair in batch], device)
        return Loaded(clean, clean, labels)
    adversarial, originals = zip(*map(reader.read, batch), strict=True)
    return Loaded(_to_device(originals, device), _to_device(adversarial, device), labels)


def _to_device(images: Sequence[Tensor], device: torch.device) -> Tensor:
    """Bytes (3, H, W) each as one batch in [0,1] on the device."""
    return to_float(torch.stack(list(images)).to(device))


def predict(classifier: Classifier, images: Tensor) -> Tensor:
    """The predicted classes (B,); `NO_CLASS` where the image or its largest logit is not finite.

    Args:
        classifier: RGB in [0,1] (B, 3, H, W) in, logits (B, classes) out.
        images: What it is shown.
    """
    logits: Tensor = classifier(images.nan_to_num(0, 0, 0))
    finite = images.flatten(1).isfinite().all(1) & logits.amax(1).isfinite()  # -inf only rules a class out
    return logits.argmax(1).masked_fill(~finite, NO_CLASS)


def combined(predictions: Tensor, labels: Tensor, combine: Combine) -> Tensor:
    """One prediction for each image out of those of its samples.

    Args:
        predictions: Classes (samples, B).
        labels: True classes (B,).
        combine: `vote`: the class seen most often, among equals the one of the earlier sample. `worst`: the
            first wrong class if there is one, so that only images right in every sample are right. `average`
            was done on the images, and leaves a single sample.

    Returns:
        Classes (B,).
    """
    if combine == "vote":
        votes = (predictions[:, None] == predictions[None]).sum(1)  # samples, B
        return predictions.gather(0, votes.argmax(0, keepdim=True))[0]  # argmax takes the first of equals
    if combine == "worst":
        wrong = (predictions != labels).byte()
        return predictions.gather(0, wrong.argmax(0, keepdim=True))[0]
    return predictions[0]


def batch_seed(seed: int, batch: int, sample: int) -> int:
    """Seed of one sample of one batch of a group: the first sample is the same however many follow."""
    return int(np.random.SeedSequence([seed, batch, sample]).generate_state(1, np.uint64)[0])


def release_resize(images: Tensor) -> Tensor:
    """What the authors' test script does to purified images before the classifier sees them.

    224 pixels: 32 black pixels on every side, then back to 224. 299: enlarged to 331. Sides of another length
    are padded by a seventh, as 224 are. Bilinear, without antialiasing (`data_process/main_advpur.py` of the
    release with `--val_preprocess`).

    Args:
        images: RGB in [0,1] (B, 3, H, W).

    Returns:
        The same, or (B, 3, 331, 331).
    """
    height, width = images.shape[2:]
    if height == width == 299:
        return F.interpolate(images, size=(331, 331), mode="bilinear", align_corners=False)
    above, beside = round(height / 7), round(width / 7)
    padded = F.pad(images, (beside, beside, above, above))
    return F.interpolate(padded, size=(height, width), mode="bilinear", align_corners=False)
