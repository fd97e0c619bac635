import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import grad

from simgraph.compile.counts import Cells

INF = float("inf")
BOUNDS = [(0.0, INF), (3.0, INF), (0.0, 1000.0), (-5.0, 40.0), (-INF, 10.0), (-INF, INF)]


def cells(low, high):
    return Cells(np.array(low), np.array(high))


def places(low, high):
    least = low if np.isfinite(low) else -50.0
    most = high + 1 if np.isfinite(high) else 500.0
    return torch.linspace(least + 0.01, most - 0.01, 200, dtype=torch.float64)


@pytest.mark.parametrize(("low", "high"), BOUNDS)
def test_places_come_back_in_order(low, high):
    u = places(low, high)
    free = cells(low, high).unconstrain(u)
    assert (free.diff() > 0).all()
    assert torch.allclose(cells(low, high).constrain(free), u, atol=1e-9)


@pytest.mark.parametrize(("low", "high"), BOUNDS)
def test_the_slope_is_that_of_the_map(low, high):
    u = places(low, high).requires_grad_()
    slope = grad(cells(low, high).unconstrain(u).sum(), u)[0]
    assert torch.allclose(cells(low, high).log_abs_det(u.detach()), slope.log(), atol=1e-9)


@given(st.sampled_from(BOUNDS), st.floats(-1e300, 1e300))
def test_every_real_number_has_a_place_within_the_bounds(bounds, free):
    place = float(cells(*bounds).constrain(torch.tensor(free, dtype=torch.float64)))
    assert np.isfinite(place)
    assert bounds[0] <= place <= bounds[1] + 1


def test_bounds_may_differ_by_element():
    mixed = cells([0.0, 0.0, -INF], [INF, 9.0, INF])
    u = torch.tensor([[4.0, 5.0, -2.0], [0.25, 0.0, 7.0]], dtype=torch.float64)
    assert torch.allclose(mixed.unconstrain(u)[0], torch.tensor([2.0, np.pi / 4, -2.0], dtype=torch.float64))
    assert torch.allclose(mixed.constrain(mixed.unconstrain(u)), u, atol=1e-12)
    assert mixed.log_abs_det(u).isfinite().all()


def test_noise_of_binomial_counts_is_equally_wide_from_one_to_a_thousand():
    rng = np.random.default_rng(0)
    spread = []
    for share in (0.005, 0.05, 0.5, 0.97):
        counts = rng.binomial(1000, share, 20_000) + rng.uniform(size=20_000)
        spread.append(float(cells(0.0, 1000.0).unconstrain(torch.tensor(counts)).std()))
    assert max(spread) < 1.2 * min(spread)
