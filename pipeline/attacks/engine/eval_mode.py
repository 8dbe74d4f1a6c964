"""The form in which an attack calls a model: in eval mode, and giving logits or nothing."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from impure.manifests.base.errors import InputError
from impure.pipeline.attacks.engine.gradients import Model


@contextmanager
def in_eval_mode(model: Model) -> Iterator[None]:
    """Put a model into eval mode, and each of its modules back into its own mode afterwards.

    In training mode an attack would change the statistics of BatchNorm and draw dropout from the global
    random state, and an image's logits would depend on its neighbours.
    """
    modes = [(part, part.training) for part in model.modules()] if isinstance(model, nn.Module) else []
    if isinstance(model, nn.Module) and any(training for _, training in modes):
        model.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def giving_logits(model: Model) -> Model:
    """Return the model with its outputs checked: anything but logits (N, classes) raises an `InputError`."""

    def checked(images: Tensor) -> Tensor:
        logits = model(images)
        if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(images):
            given = f"a tensor {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
            raise InputError(
                f"the model must return logits (N, classes), this one returns {given} for {len(images)} "
                "images; wrap it so that it returns the logits alone"
            )
        return logits

    return checked
