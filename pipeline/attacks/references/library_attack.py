"""One attack of another library behind the interface of ours; the threat model is enforced on it too."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from impure.manifests.base.errors import InputError
from impure.pipeline.attacks.engine.gradients import Model
from impure.pipeline.attacks.engine.threat_model import Problem, Proposal, grad_evals_of

Params = Mapping[str, float | int | bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """How one library runs one attack.

    Attributes:
        run: (target, problem, parameters in force) → adversarial float images.
        parameters: our parameters that the library has too; the others are not in force.
        required: values without which the library would run another attack than the one asked for.
        single_images: give it one image at a time, because a batch would mix images or hide each one's cost.
    """

    run: Callable[[nn.Module, Problem, Params], Tensor]
    parameters: tuple[str, ...] = ()
    required: Mapping[str, int] = field(default_factory=dict)
    single_images: bool = False


class LibraryModel(nn.Module):
    """Wraps a target for the libraries: always in eval mode, on a known device, counting backward passes.

    The model is held in a tuple, not as a submodule: Torchattacks switches the modes of what it is given.
    """

    def __init__(self, model: Model, like: Tensor):
        super().__init__()
        self.model_in_tuple = (model,)
        self.dtype = like.dtype
        self.backwards = 0
        # The libraries ask the parameters for the device.
        self.device_marker = nn.Parameter(like.new_zeros(0), requires_grad=False)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return logits in the images' dtype; the target gets its own: some libraries insist on float32."""
        inner = images.to(self.dtype).view_as(images)
        if inner.requires_grad:
            inner.register_hook(self._count)
        return self.model_in_tuple[0](inner).to(images.dtype)

    def _count(self, gradient: Tensor) -> Tensor:
        """Count, and lay the gradient out as FAB's `view` needs it."""
        self.backwards += 1
        return gradient.contiguous()


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryAttack:
    """One attack of one library, with its parameters in force."""

    reference: Reference
    params: Params

    def propose(self, problem: Problem) -> Proposal:
        """Run the library with its global generator seeded for this batch, and put back afterwards.

        `grad_evals` are the backward passes that the library ran for the batch: an upper bound per image.
        """
        with _seeded(problem):
            if not self.reference.single_images:
                return self._run(problem)
            parts = [self._run(problem.select([row])) for row in range(len(problem.clean))]
        return Proposal(
            images=torch.cat([part.images for part in parts]),
            grad_evals=torch.cat([part.grad_evals for part in parts]),
        )

    def _run(self, problem: Problem) -> Proposal:
        target = LibraryModel(problem.model, problem.clean)
        with torch.enable_grad():
            images = self.reference.run(target, problem, self.params).detach().to(problem.clean.dtype)
        return Proposal(images=images, grad_evals=grad_evals_of(problem, target.backwards))


@contextmanager
def _seeded(problem: Problem) -> Iterator[None]:
    devices = [problem.clean.device] if problem.clean.is_cuda else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(problem.rng.batch_seed())
        yield


def not_installed(package: str) -> InputError:
    """Return the error that says how to get a library."""
    return InputError(f"{package} is not installed; get it with: pip install 'impure[references]'")
