"""Attacking a batch of images from Python: any classifier, float or 8-bit images, one function call."""

import hashlib

import torch
from torch import Tensor, nn

from impure.manifests.base.errors import InputError
from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.attack_parameters import Value
from impure.pipeline.attacks.engine.eval_mode import giving_logits, in_eval_mode
from impure.pipeline.attacks.engine.parameter_checks import at_least
from impure.pipeline.attacks.engine.precision import check_precision
from impure.pipeline.attacks.engine.threat_model import model_dtype
from impure.pipeline.attacks.run_attack import attack_batch
from impure.pipeline.tensors import check_images, to_float, to_uint8


def attack(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    name: str = "pgd",
    *,
    eps: int = 16,
    seed: int = 0,
    preset: str = "paper",
    targeted: str | None = None,
    restarts: int = 1,
    precision: str = "fp32",
    eot: int = 1,
    **parameters: Value,
) -> Tensor:
    """Attack images as a collection's images are attacked, and return them with all pixels on the 8-bit grid.

    Args:
        model: Takes float images in [0, 1], (N, C, H, W), normalises by itself, and returns logits
            (N, classes). It is attacked in eval mode; its weights, statistics and modes are left as they are.
        images: (N, C, H, W): floating point in [0, 1], which are rounded to 8 bits first, or uint8.
        labels: True classes (N,), any integer type.
        name: An attack, a key of `impure.pipeline.attacks.attack_registry.ATTACKS`, such as "pgd".
        eps: L∞ budget in units of 1/255, a whole number from 1 to 255.
        seed: Random seed. With it an image's own pixels decide its random draws, wherever in a batch it is.
        preset: "paper", "library" (Torchattacks' defaults), "release" (what the paper's authors ran) or
            "cleverhans" (CleverHans' defaults for C&W).
        targeted: None, "random" or "least-likely": which class each image is steered to.
        restarts: Runs with fresh random draws, each on the images that withstood those before.
        precision: "fp32", "tf32" or "bf16": what the attack computes in.
        eot: How often a random model is asked for each gradient; the mean counts.
        parameters: Parameters of the attack that differ from the preset's, such as `steps=40`.

    Returns:
        Adversarial images, of the shape, type and device of `images`; an image that withstands the attack is
        perturbed all the same.

    Raises:
        InputError: An argument is wrong, or the model does not fit the images and labels.
        AttackError: The model or the attack gave NaN or infinity.

    Example:
        >>> adversarial = attack(model, images, labels, "pgd", eps=8, steps=20)
    """
    config = AttackConfig(
        name=name, eps_255=eps, preset=preset, overrides=tuple(parameters.items()), targeted=targeted,
        restarts=restarts, precision=precision,
    )  # fmt: skip
    at_least("eot", eot, 1)
    device = next((weight.device for weight in model.parameters()), images.device)
    pixels = _to_8_bits(images).to(device)
    classes = _check_labels(labels, len(images)).to(device)
    check_precision(precision, device)
    config.check_classes(_count_classes(model, pixels, classes))
    source_ids = [hashlib.sha256(image.cpu().numpy().tobytes()).hexdigest() for image in pixels]
    adversarial = attack_batch(config, model, pixels, classes, source_ids, seed, eot=eot).adversarial.to(
        images.device
    )
    return adversarial.to(images.dtype) / 255 if images.is_floating_point() else adversarial


def _to_8_bits(images: Tensor) -> Tensor:
    """The images as uint8, rounded.

    Raises:
        InputError: They are no batch of images in [0, 1] or of uint8.
    """
    if images.dtype == torch.uint8 and images.dim() == 4 and len(images):
        return images
    check_images(images)
    lowest, highest = float(images.min()), float(images.max())
    if not (lowest >= 0 and highest <= 1):  # false for NaN too
        raise InputError(
            f"images must lie in [0, 1]; these reach from {lowest:.4g} to {highest:.4g}. "
            "Normalisation belongs into the model"
        )
    return to_uint8(images.float())


def _check_labels(labels: Tensor, count: int) -> Tensor:
    """The labels as int64.

    Raises:
        InputError: They are not one whole number for each image.
    """
    if labels.shape != (count,) or labels.is_floating_point() or labels.dtype == torch.bool:
        raise InputError(
            f"labels must be {count} whole numbers, one for each image; these are {labels.dtype} "
            f"{tuple(labels.shape)}"
        )
    return labels.to(torch.int64)


@torch.no_grad()
def _count_classes(model: nn.Module, pixels: Tensor, labels: Tensor) -> int:
    """Ask the model for one image's logits; returns how many classes it has.

    Raises:
        InputError: It returns no logits, or has no such class as a label.
    """
    with in_eval_mode(model):
        logits = giving_logits(model)(to_float(pixels[:1]).to(model_dtype(model)))
    if int(labels.min()) < 0 or int(labels.max()) >= logits.shape[1]:
        raise InputError(
            f"labels must be classes 0 to {logits.shape[1] - 1} of the model; these reach from "
            f"{int(labels.min())} to {int(labels.max())}"
        )
    return logits.shape[1]
