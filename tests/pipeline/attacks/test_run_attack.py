"""Early stop, restarts, target classes and precision: what runs around every attack."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchattacks import DIFGSM, FGSM, MIFGSM, PGD

from impure.manifests.base.errors import InputError
from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.attack_registry import ATTACKS
from impure.pipeline.attacks.engine.criteria import Targeted, Untargeted
from impure.pipeline.attacks.engine.iterate import run_in_sequence
from impure.pipeline.attacks.engine.precision import in_precision, matrix_products
from impure.pipeline.attacks.engine.target_class import TARGET_CLASSES
from impure.pipeline.attacks.engine.threat_model import Proposal

EARLY_STOPPING = [name for name, spec in ATTACKS.items() if "early_stop" in spec.paper]
TARGETED = [name for name, spec in ATTACKS.items() if spec.targeted]
STRONGER = {"cw": (("kappa", 0.0),), "square": (("queries", 300),), "pgd": (("alpha_255", 32.0),)}
EPS, ALPHA = 64 / 255, 16 / 255


class Waits(TorchDispatchMode):
    """Notes what makes a host wait for its GPU: values read back, and shapes that depend on them."""

    READ = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique")

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        masked = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if masked or any(name.startswith(read) for read in self.READ):
            self.names.append(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["fgsm", "pgd", "mifgsm", "apgd-ce", "apgd-dlr", "cw"])
def test_the_host_never_waits_for_the_device(name, convolutional):
    attack, problem = AttackConfig(name=name, preset="library").build(), convolutional.problem(name)
    with Waits() as waits:
        attack.propose(problem)
    assert waits.names == []


@pytest.mark.parametrize("name", ["difgsm", "mdifgsm"])
def test_input_diversity_waits_for_draws_on_the_cpu_alone(name, convolutional):
    """One look a step at which images change, in draws that never leave the CPU."""
    attack, problem = AttackConfig(name=name).build(), convolutional.problem(name)
    with Waits() as waits:
        attack.propose(problem)
    assert set(waits.names) <= {"nonzero"}
    assert len(waits.names) <= 10


@pytest.mark.parametrize("name", EARLY_STOPPING)
def test_early_stop_costs_less_and_succeeds_as_stored(name, convolutional):
    full = AttackConfig(name=name, preset="library")
    early = replace(full, overrides=(("early_stop", True),))
    whole, stopped = convolutional.attack(full), convolutional.attack(early)
    wrong = convolutional.stored_predictions(stopped) != convolutional.labels
    assert wrong.sum() >= (convolutional.stored_predictions(whole) != convolutional.labels).sum() > 0
    assert (stopped.grad_evals[wrong] < whole.grad_evals.amax()).any()
    assert early.record()["early_stop"] is True
    for index in range(len(convolutional.clean)):
        alone = convolutional.select(index).attack(early)
        assert torch.equal(alone.adversarial[0], stopped.adversarial[index])
        assert alone.grad_evals[0] == stopped.grad_evals[index]


def test_a_restart_gives_images_that_withstood_fresh_draws(convolutional):
    config = AttackConfig(name="pgd", eps_255=2, overrides=(("steps", 2), ("alpha_255", 1.0)))
    once, often = convolutional.attack(config), convolutional.attack(replace(config, restarts=4))
    first = convolutional.stored_predictions(once) != convolutional.labels
    assert (often.grad_evals[first] == 2).all()
    assert torch.equal(often.adversarial[first], once.adversarial[first])
    assert (often.grad_evals > 2).any()


def test_attempts_in_turn_keep_the_first_success_or_else_the_first_proposal(linear):
    batch = linear(3)
    problem = batch.problem("pgd", 255)
    fooled = batch.attack(AttackConfig(name="pgd", eps_255=255)).adversarial.double() / 255
    seen = []

    def attempt(number):
        def run(part, indices):
            seen.append(indices.tolist())
            images = part.clean + number / 1000
            won = indices == number
            images[won] = fooled[indices[won]]
            return Proposal(images=images, grad_evals=torch.ones_like(indices))

        return run

    proposal = run_in_sequence(problem, [attempt(1), attempt(0), attempt(5)])
    assert seen == [[0, 1, 2], [0, 2], [2]]
    assert torch.equal(proposal.images[:2], fooled[:2])
    assert torch.equal(proposal.images[2], problem.clean[2] + 1 / 1000)
    assert proposal.grad_evals.tolist() == [2, 1, 3]


@pytest.mark.parametrize("name", TARGETED)
@pytest.mark.parametrize("target_class", TARGET_CLASSES)
def test_targeted_attacks_reach_the_class_they_record(name, target_class, convolutional):
    overrides = STRONGER.get(name, ())
    config = AttackConfig(name=name, eps_255=128, targeted=target_class, overrides=overrides)
    attacked = convolutional.attack(config)
    assert (attacked.target_classes != convolutional.labels).all()
    reached = convolutional.stored_predictions(attacked) == attacked.target_classes
    assert reached.all() if name in ("pgd", "apgd-ce", "apgd-dlr", "cw") else reached.any()


def test_target_classes_are_the_same_for_every_attack_and_as_named(convolutional):
    logits = convolutional.model(convolutional.clean.double() / 255)
    least = convolutional.attack(AttackConfig(name="fgsm", targeted="least-likely")).target_classes
    assert torch.equal(least, logits.argmin(1))
    drawn = [
        convolutional.attack(AttackConfig(name=name, targeted="random")).target_classes
        for name in ("fgsm", "pgd")
    ]
    assert torch.equal(*drawn)
    assert len(set(drawn[0].tolist())) > 1
    assert (convolutional.attack(AttackConfig(name="fgsm")).target_classes == -1).all()
    assert torch.equal(
        convolutional.select(3).attack(AttackConfig(name="pgd", targeted="random")).target_classes,
        drawn[0][3:4],
    )


class LastClass(nn.Module):
    """Makes class 0 the least likely of all by lowering its logit."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        logits = self.model(images)
        return torch.cat([logits[:, :1] - 1, logits[:, 1:]], dim=1)


@pytest.mark.parametrize("name", ["pgd", "apgd-ce", "apgd-dlr", "cw"])
def test_class_0_is_a_target_class_like_any_other(name, convolutional):
    model = LastClass(convolutional.model)
    labels = model(convolutional.clean.double() / 255).argmax(1)
    batch = replace(convolutional, model=model, labels=labels)
    overrides = STRONGER.get(name, ())
    attacked = batch.attack(
        AttackConfig(name=name, eps_255=128, targeted="least-likely", overrides=overrides)
    )
    assert attacked.target_classes.tolist() == [0] * 5
    assert batch.stored_predictions(attacked).tolist() == [0] * 5


@pytest.fixture
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("fgsm", lambda model: FGSM(model, EPS)),
        ("pgd", lambda model: PGD(model, EPS, ALPHA, 5, random_start=False)),
        ("mifgsm", lambda model: MIFGSM(model, EPS, ALPHA, 5)),
        ("difgsm", lambda model: DIFGSM(model, EPS, ALPHA, 5, diversity_prob=0.0)),
    ],
)
def test_targeted_iterates_equal_torchattacks(name, reference, convolutional):
    problem = convolutional.problem(name, 64)
    target_classes = (problem.labels + 1) % 10
    theirs = reference(problem.model)
    theirs.set_mode_targeted_by_label(quiet=True)
    overrides = {"steps": 5, "alpha_255": 16.0, "random_start": False, "diversity_prob": 0.0}
    known = tuple((key, value) for key, value in overrides.items() if key in ATTACKS[name].paper)
    attack = AttackConfig(name=name, overrides=known).build()
    ours = attack.propose(problem.with_criterion(Targeted(problem.labels, target_classes)))
    torch.testing.assert_close(
        ours.images, theirs(problem.clean, target_classes).detach(), rtol=0, atol=1e-12
    )


def test_targeted_losses_are_the_published_ones():
    logits = torch.tensor([[4.0, 1.0, 2.0, 0.0, -1.0]])
    criterion = Targeted(torch.tensor([0]), torch.tensor([2]))
    torch.testing.assert_close(criterion.margin(logits), torch.tensor([-2.0]))
    torch.testing.assert_close(criterion.dlr(logits), torch.tensor([-2 / (4 - 0.5)]))
    expected = logits.log_softmax(1)[:, 2]
    torch.testing.assert_close(criterion.cross_entropy(logits), expected)
    assert not criterion.reached(logits).any()
    assert Untargeted(torch.tensor([2])).reached(logits).all()


@pytest.mark.parametrize(("kind", "classes"), [(Untargeted, 2), (Targeted, 3)])
def test_dlr_needs_enough_classes(kind, classes):
    labels = torch.zeros(1, dtype=torch.int64)
    criterion = kind(labels) if kind is Untargeted else kind(labels, labels + 1)
    with pytest.raises(InputError, match=f"{classes + 1} classes or more; this one has {classes}"):
        criterion.dlr(torch.zeros(1, classes))


def test_bf16_computes_the_proposal_and_never_the_verdict(convolutional):
    model = convolutional.model.float()
    seen = []

    def spying(images):
        seen.append((torch.is_autocast_enabled("cpu"), images.requires_grad, images.dtype))
        return model(images)

    try:
        batch = replace(convolutional, model=spying)
        attacked = batch.attack(AttackConfig(name="pgd", precision="bf16"))
        exact = batch.attack(AttackConfig(name="pgd"))
    finally:
        convolutional.model.double()
    assert (True, True, torch.float32) in seen
    assert all(autocast == gradient for autocast, gradient, _ in seen[:11])
    assert not torch.equal(attacked.adversarial, exact.adversarial)
    assert (convolutional.stored_predictions(attacked) != convolutional.labels).any()


def test_fp32_means_fp32_and_tf32_is_put_back():
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]
    for precision, allowed in (("fp32", False), ("bf16", False), ("tf32", True)):
        with matrix_products(precision):
            assert [flag.allow_tf32 for flag in flags] == [allowed, allowed]
    assert [flag.allow_tf32 for flag in flags] == before


def test_tf32_needs_cuda(convolutional):
    with pytest.raises(InputError, match="needs a CUDA device"):
        in_precision(convolutional.model, "tf32", torch.zeros(1))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "pgd", "restarts": 0}, "restarts must be at least 1"),
        ({"name": "fgsm", "restarts": 2}, "fgsm draws nothing.*pgd"),
        ({"name": "pgd", "precision": "fp8"}, "unknown precision 'fp8'; choose from: fp32, tf32, bf16"),
        ({"name": "pgd", "targeted": "any"}, "'any'; choose from: random, least-likely"),
        ({"name": "deepfool", "targeted": "random"}, "deepfool has no targeted form"),
        ({"name": "pgd", "targeted": "random", "implementation": "torchattacks"}, "no targeted form"),
    ],
)
def test_options_that_do_not_fit_are_named(wrong, message):
    with pytest.raises(InputError, match=message):
        AttackConfig(**wrong)
