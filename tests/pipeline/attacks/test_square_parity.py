"""Square against Torchattacks with our draws injected, and against the published table."""

import pytest
import torch
import torchattacks
from torch import nn

from impure.pipeline.attacks.engine.threat_model import finalize
from impure.pipeline.attacks.methods.square import Square
from tests.pipeline.attacks.test_square import aimed, queries_used, recorded


@pytest.fixture
def double():
    """Torchattacks makes its constants in the default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def inject(patch, problem, queries):
    """Torchattacks draws the stripes, then at each query a row, a column and the signs."""
    shape = problem.clean.shape[1:]
    stripes = problem.rng.uniform("stripes", (shape[0], 1, shape[2]))
    numbers = [stripes]
    for row, column, *steps in problem.rng.uniform("squares", (queries, 2 + shape[0]))[0]:
        numbers += [row.view(1), column.view(1), torch.stack(steps).view(-1, 1, 1)]
    left = iter(numbers)

    def rand(size):
        drawn = next(left)
        assert list(drawn.shape) == list(size)
        return drawn

    patch.setattr(torch, "rand", rand)


def torchattacks_search(problem, queries, p_init, targeted):
    loss = "ce" if targeted else "margin"
    reference = torchattacks.Square(
        problem.model, eps=problem.eps, n_queries=queries, p_init=p_init, loss=loss
    )
    reference.targeted = targeted
    reference.init_hyperparam(problem.clean)
    classes = problem.criterion.target_classes if targeted else problem.labels
    return reference.attack_single_run(problem.clean, classes)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("p_init", [0.8, 0.1])
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("eps_255", [2, 20, 64])
def test_torchattacks_finds_the_same_image_in_as_many_queries(
    eps_255, targeted, p_init, convolutional, monkeypatch
):
    queries, used = 150, []
    for index in range(len(convolutional.clean)):
        posed = convolutional.select(index).problem("square", eps_255)
        problem, logits = recorded(aimed(posed) if targeted else posed)
        ours = Square(queries=queries, p_init=p_init).propose(problem)
        used.append(queries_used(problem, logits))
        with monkeypatch.context() as patch:
            inject(patch, problem, queries)
            their_queries, theirs = torchattacks_search(problem, queries, p_init, targeted)
        torch.testing.assert_close(ours.images, theirs, rtol=0, atol=1e-12)
        stored = problem.stored_levels(theirs).to(torch.uint8)
        assert torch.equal(finalize(posed, ours).adversarial, stored)
        assert used[-1] == their_queries.item()
    assert (set(used) == {151}) if eps_255 == 2 else (len(set(used)) > 2)


@pytest.mark.parametrize(
    ("first", "last", "halvings"),
    [
        (0, 10, 0),
        (11, 50, 1),
        (51, 200, 2),
        (201, 500, 3),
        (501, 1000, 4),
        (1001, 2000, 5),
        (2001, 4000, 6),
        (4001, 6000, 7),
        (6001, 8000, 8),
        (8001, 9999, 9),
    ],
)
def test_p_follows_the_published_table(first, last, halvings):
    side = round((0.8 / 2**halvings * 2000 * 1000) ** 0.5)
    whole, half = Square(queries=10000, p_init=0.8), Square(queries=5000, p_init=0.8)
    assert {whole.side(query, 2000, 1000) for query in range(first, last + 1)} == {min(side, 1000)}
    halved = range(-(-first // 2), last // 2 + 1)
    assert {half.side(query, 2000, 1000) for query in halved} == {min(side, 1000)}


@pytest.mark.parametrize("queries", [1, 300, 5000, 10000, 20000])
def test_p_follows_torchattacks_when_rescaled(queries):
    reference = torchattacks.Square(nn.Identity(), n_queries=queries)
    attack = Square(queries=queries, p_init=0.8)
    for query in range(queries):
        expected = max(round((reference.p_selection(query) * 224 * 224) ** 0.5), 1)
        assert attack.side(query, 224, 224) == expected
