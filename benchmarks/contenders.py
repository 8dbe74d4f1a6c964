"""Who takes part: the network and images, the bare gradients, the plain loop, and the libraries."""

import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torchvision
from cleverhans.torch.attacks.carlini_wagner_l2 import carlini_wagner_l2
from contest import Contender, matmul_rate
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.engine.precision import in_precision
from impure.pipeline.attacks.engine.rng import KeyedRng
from impure.pipeline.attacks.engine.threat_model import LEVELS, Problem, make_problem
from impure.pipeline.attacks.references.library_attack import LibraryModel, Params
from impure.pipeline.attacks.references.reference_libraries import REFERENCES
from impure.pipeline.generation.batch_size import fastest_memory_formats
from impure.pipeline.sources.imagenet import imagenet_wnids
from impure.pipeline.targets.target import Target
from impure.pipeline.targets.target_card import TargetCard

EPS_255 = 16
CLASSES = 1000
LINEARISED = 10
"""Input gradients on one graph in an iteration of DeepFool's baseline."""
SEED = 7
"""Of the network and the images; with this one DeepFool takes 3 to 5 iterations an image at 112 pixels."""


class Shown(nn.Module):
    """The target as every contender sees it, in the precision asked for."""

    def __init__(self, target: Target, precision: str) -> None:
        super().__init__()
        self.target = target
        self.predict = in_precision(target, precision, target.mean)
        # Torchattacks leaves the whole model in the mode that its outermost module was in.
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits of [0, 1] images."""
        return self.predict(images)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What all contenders share: bytes (N, 3, H, W), the model's own predictions as labels, and two models.

    `as_built` differs from `model` as a fresh network does: weights require gradients, channels come first.
    """

    model: Shown
    as_built: Shown
    images: Tensor
    labels: Tensor
    rounds: int
    peak: float | None

    def problem(self, name: str, count: int | None = None) -> Problem:
        """Pose the images, or the first few, to an attack."""
        images, labels = self.images[:count], self.labels[:count]
        rng = KeyedRng(seed=SEED, attack=name, source_ids=tuple(map(str, range(len(images)))))
        return make_problem(self.model, images, labels, EPS_255, rng, torch.float32)


def set_up(
    device: torch.device, model: str, size: int, batch_size: int, rounds: int, precision: str
) -> Bench:
    """Build an untrained network of 1000 classes and random images, in the memory format of a real run."""
    torch.manual_seed(SEED)
    network = torchvision.models.get_model(model, weights=None)
    card = TargetCard(
        name="untrained", architecture=f"torchvision:{model}", num_classes=CLASSES, wnids=imagenet_wnids(),
        input_size=size, resize=size, crop=size, interpolation="bilinear", antialias=True,
        mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225),
    )  # fmt: skip
    target = Target(card, network).to(device)
    target.lay_out(fastest_memory_formats(target)[precision])
    images = torch.randint(0, 256, (batch_size, size, size, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    images = images.to(device).contiguous(memory_format=target.memory_format)
    shown = Shown(target, precision)
    with torch.no_grad():
        labels = shown(images / LEVELS).argmax(1)
    fresh = copy.deepcopy(target).requires_grad_()
    fresh.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    peak = matmul_rate(device, dtype) if device.type == "cuda" else None
    as_built = Shown(fresh, precision)
    return Bench(model=shown, as_built=as_built, images=images, labels=labels, rounds=rounds, peak=peak)


def gradient_evaluation(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Take the loss's gradient by the images and nothing else: the unit that attacks are measured in."""
    leaf = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(model(leaf), labels, reduction="sum"), leaf)
    return gradient


def linearisations(model: nn.Module, images: Tensor, sizes: list[int]) -> None:
    """Take DeepFool's bare iterations: a forward pass and gradients on its graph, for the first images."""
    for size in sizes:
        leaf = images[:size].detach().requires_grad_()
        for index, logit in enumerate(model(leaf)[:, :LINEARISED].sum(0).unbind(), start=1):
            torch.autograd.grad(logit, leaf, retain_graph=index < LINEARISED)


def plain_loop(model: nn.Module, clean: Tensor, labels: Tensor, params: dict[str, Any]) -> Tensor:
    """Run FGSM, PGD or MI-FGSM as tutorials write them."""
    eps, alpha, decay = EPS_255 / LEVELS, params.get("alpha_255", EPS_255) / LEVELS, params.get("decay")
    images, momentum = clean.clone(), torch.zeros_like(clean)
    if params.get("random_start"):
        images = (images + torch.empty_like(images).uniform_(-eps, eps)).clamp(0, 1)
    for _ in range(params.get("steps", 1)):
        images = images.detach().requires_grad_()
        model.zero_grad()
        cross_entropy(model(images), labels).backward()
        direction: Any = images.grad
        if decay is not None:
            momentum = decay * momentum + direction / direction.abs().mean(dim=(1, 2, 3), keepdim=True)
            direction = momentum
        moved = images.detach() + alpha * direction.sign()
        images = (clean + (moved - clean).clamp(-eps, eps)).clamp(0, 1)
    return images


def by_libraries(bench: Bench, config: AttackConfig, problem: Problem) -> list[Contender]:
    """Prepare the libraries, called without our wrapper; a first run counts their gradients.

    Each runs twice: on our model, which gives it frozen weights and channels_last, and on one as built.
    """
    contenders = []
    built = replace(problem, clean=problem.clean.contiguous())
    for library, attacks in REFERENCES.items():
        if (reference := attacks.get(config.name)) is None:
            continue
        params = {name: config.params[name] for name in reference.parameters}
        if "search_steps" in reference.required:  # Torchattacks' C&W; with a large c it does not stop early
            params |= {"steps": published(config), "c0": 1000.0}
        run = cleverhans_cw if (library, config.name) == ("cleverhans", "cw") else reference.run
        counter = LibraryModel(bench.model, problem.clean)
        run(counter, problem, params)
        ours = partial(run, bench.model, problem, params)
        theirs = partial(run, bench.as_built, built, params)
        contenders += [
            Contender(name=library, work=ours, units=counter.backwards),
            Contender(name=f"{library}, network as built", work=theirs, units=counter.backwards),
        ]
    return contenders


def cleverhans_cw(model: nn.Module, problem: Problem, params: Params) -> Tensor:
    """Run CleverHans' C&W without the forward pass by which our wrapper learns the number of classes."""
    images: Tensor = carlini_wagner_l2(
        model, problem.clean, CLASSES, y=problem.labels, lr=params["lr"], confidence=params["kappa"],
        initial_const=params["c0"], binary_search_steps=params["search_steps"],
        max_iterations=params["steps"],
    )  # fmt: skip
    return images


def published(config: AttackConfig) -> int:
    """Return the gradient evaluations of the attack as published."""
    steps = int(config.params.get("steps", 1)) * int(config.params.get("search_steps", 1))
    return steps + config.name.startswith("apgd")
