"""FAB's projection onto a plane within the box, against linear programmes and its own equation."""

import pytest
import torch
from scipy.optimize import linprog

from impure.pipeline.attacks.methods.fab import step_to_hyperplane


def smallest_step(point, slope, lead):
    """Return the least λ with |δ| ≤ λ, w·δ = −f and x + δ in the box by linear programming, or None."""
    size = len(point)
    steps, one = torch.eye(size), torch.ones(size, 1)
    solution = linprog(
        c=[0.0] * size + [1.0],
        A_ub=torch.cat([torch.cat([steps, -one], 1), torch.cat([-steps, -one], 1)]).numpy(),
        b_ub=[0.0] * (2 * size),
        A_eq=[[*slope.tolist(), 0.0]],
        b_eq=[-lead],
        bounds=[(-value, 1 - value) for value in point.tolist()] + [(0, None)],
    )
    assert solution.status in (0, 2)
    return solution.fun if solution.status == 0 else None


def planes(kind, count=25):
    """Random points, slopes and leads of 12 pixels in float64."""
    generator = torch.Generator().manual_seed(11)
    points = torch.rand(count, 3, 2, 2, generator=generator, dtype=torch.float64)
    slope = torch.randn(count, 3, 2, 2, generator=generator, dtype=torch.float64)
    lead = torch.randn(count, generator=generator, dtype=torch.float64) * 1.5
    if kind == "at the box":
        points = (points * 3 - 1).clamp(0, 1)
    elif kind == "ties":
        points = (points * 4).round() / 4
    elif kind == "flat pixels":
        slope *= torch.rand(slope.shape, generator=generator) < 0.4
    elif kind == "far":
        lead *= 6
    elif kind == "through the point":
        lead *= 0
    return points, slope, lead


@pytest.mark.parametrize("kind", ["inside", "at the box", "ties", "flat pixels", "far", "through the point"])
def test_the_projection_solves_its_linear_programme(kind):
    points, slope, lead = planes(kind)
    steps = step_to_hyperplane(points, slope, lead)
    assert ((points + steps >= 0) & (points + steps <= 1)).all()
    assert (steps[slope == 0] == 0).all()
    reachable = 0
    for point, normal, value, step in zip(points, slope, lead.tolist(), steps, strict=True):
        step, normal = step.flatten(), normal.flatten()
        least = smallest_step(point.flatten(), normal, value)
        rest = value + normal @ step
        reachable += least is not None
        if least is not None:
            assert step.abs().max() == pytest.approx(least, abs=1e-9)
            assert abs(rest) < 1e-12
        else:
            corner = (normal * value < 0).double()
            moving = normal != 0
            torch.testing.assert_close((point.flatten() + step)[moving], corner[moving])
    assert 5 <= reachable <= (10 if kind == "far" else 25)


def test_the_projection_solves_its_equation_on_many_pixels():
    """675 pixels in whole levels, in float32 too: what is left of f after the step is rounding."""
    generator = torch.Generator().manual_seed(5)
    points = torch.randint(0, 256, (8, 3, 15, 15), generator=generator).double() / 255
    slope = torch.randn(points.shape, generator=generator, dtype=torch.float64)
    lead = torch.linspace(-120, 120, 8, dtype=torch.float64)
    for dtype, tolerance in [(torch.float64, 1e-11), (torch.float32, 1e-3)]:
        values = (points.to(dtype), slope.to(dtype), lead.to(dtype))
        rest = values[2] + (step_to_hyperplane(*values) * values[1]).flatten(1).sum(1)
        assert rest.abs().max() < tolerance


@pytest.mark.parametrize("lead", [0.0, 1e-300, -3.0])
def test_a_flat_function_moves_nothing(lead):
    points = planes("at the box")[0]
    steps = step_to_hyperplane(points, torch.zeros_like(points), torch.full((25,), lead, dtype=torch.float64))
    assert torch.equal(steps, torch.zeros_like(points))


@pytest.mark.parametrize("broken", ["slope", "lead"])
def test_the_projection_hands_nan_on(broken):
    points, slope, lead = planes("inside")
    {"slope": slope[3, 0], "lead": lead[3:4]}[broken].fill_(torch.nan)
    steps = step_to_hyperplane(points, slope, lead)
    assert steps[3].isnan().all()
    assert not steps[torch.arange(25) != 3].isnan().any()
