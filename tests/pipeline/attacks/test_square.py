"""Square: what a search by queries guarantees each image."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from impure.manifests.base.errors import InputError
from impure.pipeline.attacks.engine.criteria import Targeted, top_other_classes
from impure.pipeline.attacks.engine.rng import KeyedRng
from impure.pipeline.attacks.engine.threat_model import AttackError, finalize, make_problem
from impure.pipeline.attacks.methods.square import CHECK_EVERY, Square, SquareState


class Recorder(nn.Module):
    """Keeps the logits of every query."""

    def __init__(self, model):
        super().__init__()
        self.model, self.logits = model, []

    def forward(self, images):
        assert not torch.is_grad_enabled()
        self.logits.append(self.model(images))
        return self.logits[-1].clone()


def recorded(problem):
    recorder = Recorder(problem.model)
    return problem.with_model(recorder), recorder.logits


def search(problem, queries, p_init=0.8):
    attack = Square(queries=queries, p_init=p_init)
    return SquareState.start(problem, [attack.side(query, 15, 15) for query in range(queries)])


def aimed(problem):
    """The likeliest wrong class."""
    logits = problem.model(problem.clean)
    return problem.with_criterion(
        Targeted(problem.labels, top_other_classes(logits, problem.labels, 1).squeeze(1))
    )


def queries_used(problem, logits):
    """Queries of a single image up to the first that reaches the criterion, the start included."""
    reached = torch.cat([problem.criterion.reached(query) for query in logits]).nonzero()
    return reached[0].item() + 1 if len(reached) else len(logits)


def test_squares_fit_every_image():
    widest = Square(queries=10, p_init=1.0)
    assert widest.side(0, 5, 90) == 5
    assert Square(queries=10000, p_init=0.001).side(9999, 32, 32) == 1
    assert widest.side(0, 1, 1) == 1


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("eps_255", [1, 16, 48])
def test_each_query_improves_or_leaves_alone(eps_255, targeted, convolutional):
    problem = convolutional.problem("square", eps_255)
    now = search(aimed(problem) if targeted else problem, queries=120)
    changed = 0
    for query in range(120):
        levels, loss, finished = now.levels.clone(), now.loss.clone(), now.finished.clone()
        now.run(slice(query, query + 1))
        same = (now.levels == levels).flatten(1).all(1)
        changed += (~same).sum().item()
        assert (same | (now.loss > loss) | (now.finished & ~finished)).all()
        assert (now.loss >= loss)[~now.finished].all()
        assert same[finished].all()
        assert torch.equal(now.loss[finished], loss[finished])
        assert (now.finished | ~finished).all()
        assert torch.equal(now.levels, now.levels.round())
        assert ((now.levels - convolutional.clean).abs() <= eps_255).all()
    assert changed > 20


def test_a_move_is_one_square_of_two_eps_per_channel(convolutional):
    """Algorithm 2: from mid-budget, a proposal changes one square by ±2ε, clipped to the budget."""
    problem = replace(convolutional.problem("square", 255), eps=3 / 255)
    seen = []

    def model(images):
        seen.append(images * 255)
        return convolutional.model(images)

    now = search(problem.with_model(model), queries=40)
    now.levels = torch.full_like(now.levels, 100.0)
    now.loss, now.finished = torch.full_like(now.loss, 1e9), torch.ones_like(now.finished)
    seen.clear()
    now.run(slice(0, 40))
    places = set()
    for query, proposed in enumerate(seen):
        side = Square(queries=40, p_init=0.8).side(query, 15, 15)
        change = (proposed - 100).round()
        assert (change.abs().flatten(1).sum(1) == 3 * side**2 * 6).all()
        assert (change.flatten(2).abs().amax(2) == 6).all()
        assert (change.flatten(2).sum(2).abs() == 6 * side**2).all()
        rows, columns = change[:, 0].abs().sum(2) > 0, change[:, 0].abs().sum(1) > 0
        assert (rows.sum(1) == side).all()
        assert (columns.sum(1) == side).all()
        places |= {(query, row.int().argmax().item()) for row in rows}
    assert len(places) > 100


def test_the_start_is_vertical_stripes(convolutional):
    problem = convolutional.problem("square", 7)
    move = search(problem, queries=1).levels - convolutional.clean
    free = (convolutional.clean >= 7) & (convolutional.clean <= 248)
    assert (move.abs() == 7)[free].all()
    signs = move.sign().masked_fill(~free, 0)
    assert (signs.amax(2) != -signs.amin(2)).all()
    assert 0.3 < (signs.amax(2) > 0).double().mean() < 0.7


@pytest.mark.parametrize("eps_255", [3, 40])
def test_results_ignore_neighbours_and_batch_size(eps_255, convolutional):
    attack = Square(queries=200, p_init=0.8)
    together = attack.propose(convolutional.problem("square", eps_255)).images
    for indices in [(0,), (1,), (2,), (3,), (4,), (4, 1), (2, 0, 3)]:
        part = attack.propose(convolutional.select(*indices).problem("square", eps_255)).images
        assert torch.equal(part, together[list(indices)])


def test_finished_images_leave_the_batch(convolutional):
    problem, logits = recorded(convolutional.problem("square", 40))
    proposal = Square(queries=2000, p_init=0.8).propose(problem)
    sizes = [len(query) for query in logits]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) > 2
    assert len(sizes) < 2001
    assert all(sizes[query] == sizes[query - 1] for query in range(2, len(sizes)) if query % CHECK_EVERY != 1)
    assert problem.criterion.reached(convolutional.model(proposal.images)).all()
    assert proposal.grad_evals.tolist() == [0] * 5


def test_an_image_fooled_by_the_start_costs_one_query(convolutional):
    batch = replace(convolutional, labels=(convolutional.labels + 1) % 10)
    problem, logits = recorded(batch.problem("square", 1))
    Square(queries=100, p_init=0.8).propose(problem)
    assert len(logits) == 1


@pytest.mark.parametrize("eps_255", [1, 4, 255])
@pytest.mark.parametrize("targeted", [False, True])
def test_stored_bytes_are_what_the_search_saw(targeted, eps_255, convolutional):
    problem = convolutional.problem("square", eps_255)
    problem = aimed(problem) if targeted else problem
    proposal = Square(queries=60, p_init=0.8).propose(problem)
    attacked = finalize(problem, proposal)
    assert (attacked.adversarial.int() - convolutional.clean.int()).abs().max() == eps_255
    assert torch.equal(attacked.adversarial.double() / 255, proposal.images)
    assert torch.equal(convolutional.stored_predictions(attacked), attacked.pred_float)


def test_targeted_search_reaches_the_target_classes(convolutional):
    problem = aimed(convolutional.problem("square", 60))
    attacked = finalize(problem, Square(queries=1000, p_init=0.8).propose(problem))
    assert torch.equal(attacked.pred_float, problem.criterion.target_classes)


class Masked(nn.Module):
    """Sees eight grey levels only, which leaves no gradient anywhere."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, images):
        return self.inner((images * 7).round() / 7)


def test_a_target_without_gradients_is_fooled(convolutional, make_batch):
    batch = make_batch(Masked(convolutional.model), convolutional.clean)
    leaf = (batch.clean.double() / 255).requires_grad_()
    (gradient,) = torch.autograd.grad(batch.model(leaf).sum(), leaf)
    assert not gradient.any()
    problem = batch.problem("square", 24)
    attacked = finalize(problem, Square(queries=1000, p_init=0.8).propose(problem))
    assert (batch.stored_predictions(attacked) != batch.labels).all()


def test_a_query_that_changes_nothing_is_not_kept(convolutional):
    problem = convolutional.problem("square")
    flat = problem.with_model(
        lambda images: torch.eye(10, dtype=torch.float64)[problem.labels[: len(images)]]
    )
    start = search(flat, queries=1).result()
    assert torch.equal(Square(queries=50, p_init=0.8).propose(flat).images, start)


class BreaksOnce(nn.Module):
    """Answers one query with one broken logit for the second image."""

    def __init__(self, inner, query, value):
        super().__init__()
        self.inner, self.query, self.value = inner, query, value

    def forward(self, images):
        logits = self.inner(images)
        if self.query == 0:
            logits[1, 3] = self.value
        self.query -= 1
        return logits


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("query", [0, 1, 30])
def test_a_broken_answer_surfaces(query, value, targeted, convolutional):
    problem = convolutional.problem("square", 1)
    problem = aimed(problem) if targeted else problem
    broken = problem.with_model(BreaksOnce(convolutional.model, query, value))
    proposal = Square(queries=50, p_init=0.8).propose(broken)
    assert proposal.images[1].isnan().all()
    assert proposal.images[[0, 2, 3, 4]].isfinite().all()
    with pytest.raises(AttackError, match=r"NaN or infinite pixels for image val/image-1\.jpg$"):
        finalize(problem, proposal)


def test_it_runs_in_float32_and_on_tiny_grey_images():
    clean = torch.tensor([100, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    rng = KeyedRng(seed=0, attack="square", source_ids=("a", "b"))
    labels = torch.zeros(2, dtype=torch.int64)
    problem = make_problem(lambda x: -x.flatten(1) @ torch.ones(1, 2), clean, labels, 4, rng, torch.float32)
    images = Square(queries=9, p_init=0.8).propose(problem).images
    assert images.dtype == torch.float32
    assert ((images * 255 - clean).abs() <= 4.001).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"queries": 0}, "queries must be at least 1, got 0"),
        ({"p_init": 0.0}, "p_init must be greater than 0, got 0"),
        ({"p_init": 1.5}, "p_init must be from 0 to 1, got 1.5"),
        ({"p_init": float("nan")}, "p_init must be greater than 0, got nan"),
    ],
)
def test_parameters_out_of_range_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        Square(**({"queries": 10, "p_init": 0.8} | wrong))
