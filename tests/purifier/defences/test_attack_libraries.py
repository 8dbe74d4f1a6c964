"""`DefendedModel` is attacked as it is by the libraries that the field uses: one test each."""

import sys
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from impure.purifier.defences.defended_model import DefendedModel
from impure.purifier.defences.static.gaussian_noise import GaussianNoise
from impure.purifier.riae.model import RIAE

Make = Callable[[str], RIAE]
EPS = 8 / 255
CLASSES = 10


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 16, 16) * 0.8 + 0.1


@pytest.fixture(params=[None, 3], ids=["fresh", "fixed"])
def defended(request: pytest.FixtureRequest, riae: Make) -> DefendedModel:
    """With fresh noise on every call, or fixed; before a target with batch statistics."""
    target = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.Tanh(), nn.Flatten(), nn.Linear(6 * 49, CLASSES)
    )
    return DefendedModel(riae("both"), target, seed=request.param).requires_grad_(False)


def check_attack(
    defended: nn.Module, images: Tensor, labels: Tensor, attacked: Tensor, eps: float = EPS
) -> None:
    """Inside the threat model, and worse for the classifier than the clean images."""
    assert (attacked - images).abs().max() <= eps + 1e-6 and attacked.min() >= 0 and attacked.max() <= 1
    losses = []
    for batch in (images, attacked):
        torch.manual_seed(9)  # the same noise for both
        with torch.no_grad():
            losses.append(sum(nn.functional.cross_entropy(defended(batch), labels) for _ in range(8)) / 8)
    assert losses[1] > losses[0] + 1e-3


def test_torchattacks(defended: DefendedModel, images: Tensor) -> None:
    import torchattacks

    labels = defended(images).argmax(1)
    for attack in (
        torchattacks.PGD(defended, eps=EPS, alpha=EPS / 4, steps=6),
        torchattacks.EOTPGD(defended, eps=EPS, alpha=EPS / 4, steps=4, eot_iter=2),
    ):
        check_attack(defended, images, labels, attack(images, labels))
    defended.train()
    torchattacks.FGSM(defended, eps=EPS)(images, labels)
    assert defended.training and not defended.target.training


def test_cleverhans(defended: DefendedModel, images: Tensor) -> None:
    from cleverhans.torch.attacks.projected_gradient_descent import projected_gradient_descent

    labels = defended(images).argmax(1)
    attacked = projected_gradient_descent(
        defended, images, EPS, EPS / 4, 6, np.inf, clip_min=0.0, clip_max=1.0, y=labels
    )
    check_attack(defended, images, labels, attacked.detach())


def test_foolbox(defended: DefendedModel, images: Tensor) -> None:
    foolbox = pytest.importorskip("foolbox")
    labels = defended(images).argmax(1)
    model = foolbox.PyTorchModel(defended, bounds=(0, 1))
    attack = foolbox.attacks.LinfPGD(steps=6, abs_stepsize=EPS / 4)
    _, attacked, _ = attack(model, images, labels, epsilons=EPS)
    check_attack(defended, images, labels, attacked)


def test_art(defended: DefendedModel, images: Tensor) -> None:
    """The Adversarial Robustness Toolbox, which takes and gives arrays."""
    attacks = pytest.importorskip("art.attacks.evasion")
    estimators = pytest.importorskip("art.estimators.classification")
    labels = defended(images).argmax(1)
    classifier = estimators.PyTorchClassifier(
        model=defended,
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(images.shape[1:]),
        nb_classes=CLASSES,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
    pgd = attacks.ProjectedGradientDescent(
        classifier, eps=EPS, eps_step=EPS / 4, max_iter=6, batch_size=3, verbose=False
    )
    attacked = torch.from_numpy(pgd.generate(images.numpy(), labels.numpy()))
    check_attack(defended, images, labels, attacked)
    assert classifier.predict(images.numpy()).shape == (3, CLASSES)


def noisy_linear(seed: int | None) -> DefendedModel:
    """Which a quarter of the range surely fools."""
    target = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, CLASSES))
    return DefendedModel(GaussianNoise(eps=4), target, seed=seed).requires_grad_(False)


@pytest.mark.parametrize("seed", [None, 3])
def test_the_published_autoattack(images: Tensor, seed: int | None) -> None:
    pyautoattack = pytest.importorskip("pyautoattack")
    defended = noisy_linear(seed)
    labels = defended(images).argmax(1)
    attack = pyautoattack.AutoAttack(
        defended, eps=0.25, version="rand" if seed is None else "standard", seed=0
    )
    for part in (attack.apgd, attack.apgd_targeted, attack.fab):
        part.n_iter, part.n_restarts, part.eot_iter = 6, 1, 2
    attack.square.n_queries = 20
    attacked, _ = attack.run_standard_evaluation(images, labels, batch_size=3)
    assert (defended(attacked).argmax(1) != labels).all()
    check_attack(defended, images, labels, attacked, eps=0.25)


@pytest.fixture
def robustbench(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The true one, its AutoAttack being the published package under the name that it asks for."""
    pyautoattack = pytest.importorskip("pyautoattack")
    stand_in = SimpleNamespace(AutoAttack=_named_as_robustbench_has_it(pyautoattack.AutoAttack))
    monkeypatch.setitem(sys.modules, "autoattack", stand_in)
    monkeypatch.setitem(sys.modules, "autoattack.state", pyautoattack.state)
    try:
        from robustbench.eval import benchmark  # noqa: F401
    except ImportError as error:
        pytest.skip(
            f"{error}; torchattacks brings a copy of robustbench without it. The true one pins timm==1.0.9: "
            "install it with --no-deps, its dependencies beside it, in an environment of its own"
        )
    yield sys.modules["robustbench.eval"]


def _named_as_robustbench_has_it(auto_attack: Any) -> Any:
    """The published AutoAttack with the arguments of the program that RobustBench was written for."""

    class Renamed(auto_attack):  # type: ignore[misc]
        def __init__(self, model: nn.Module, *, log_path: object, **values: Any) -> None:
            super().__init__(model, **values)

        def run_standard_evaluation(self, x: Tensor, y: Tensor, *, bs: int, state_path: Any) -> Any:
            return super().run_standard_evaluation(x, y, batch_size=bs, state_path=state_path)[0]

    return Renamed


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of model files from many years
def test_robustbench(robustbench: ModuleType, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    defended = noisy_linear(3).eval()
    labels = defended(images).argmax(1)
    monkeypatch.setattr(robustbench, "load_clean_dataset", lambda *_: (images, labels))
    clean, robust = robustbench.benchmark(
        defended, n_examples=3, dataset="cifar10", threat_model="Linf", eps=0.25
    )
    assert clean == 1 and robust == 0
