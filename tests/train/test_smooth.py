"""Jumps along lines are found, and steep slopes are none."""

import torch

from simgraph.train.smooth import smooth


def found(value):
    """Looks along three coordinates through two points."""
    at = torch.tensor([[0.1, -0.4, 1.3], [1.0, 0.2, -1.1]], dtype=torch.float64)
    row, column = torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([0, 1, 2, 0, 1, 2])

    def function(line, place):
        points = at[row[line]].scatter(1, column[line, None], place[:, None]).requires_grad_(True)
        values = value(points)
        slopes = torch.autograd.grad(values.sum(), points)[0]
        return values.detach(), slopes.gather(1, column[line, None]).squeeze(1)

    ends = -2 * torch.ones(6, dtype=torch.float64), 3 * torch.ones(6, dtype=torch.float64)
    return smooth(function, at[row, column], *ends).reshape(2, 3).all(0).tolist()


def test_smooth_functions_have_no_jumps():
    assert found(lambda z: -z.square().sum(1) + z.prod(1)) == [True] * 3


def test_steep_ones_have_none():
    assert found(lambda z: -(1e4 * z[:, 0]).square() + 50 * torch.tanh(1e4 * (z[:, 1] - 0.3)) + z[:, 2]) == [True] * 3


def test_corners_are_no_jumps():
    assert found(lambda z: -z.abs().sum(1)) == [True] * 3


def test_small_steps_are_jumps():
    assert found(lambda z: -z.square().sum(1) + 0.01 * (z[:, 1] > 0.3337)) == [True, False, True]


def test_a_step_that_another_coordinate_moves_is_one_along_both():
    assert found(lambda z: -z.square().sum(1) + (z[:, 0] > z[:, 2]).double()) == [False, True, False]


def test_a_slope_that_misses_a_part_is_wrong():
    assert found(lambda z: -z.square().sum(1) - (z[:, 0] - 1).square().detach()) == [False, True, True]


def test_where_a_density_ends_there_is_a_jump():
    def value(z):
        return torch.where(z[:, 2] < 2.7, 0.0 * z.sum(1), -torch.inf)

    assert found(value) == [True, True, False]


def test_what_is_narrower_than_a_cell_is_found_by_some_line():
    place = torch.linspace(-2, 2, 20, dtype=torch.float64)

    def function(line, x):
        return ((x > 0.5) & (x < 0.56)).double(), torch.zeros_like(x)

    assert not smooth(function, place, torch.full_like(place, -3), torch.full_like(place, 3)).all()


def test_a_fall_to_what_is_low_is_a_jump():
    def lower(line, x):
        return torch.where(x < 1, -x.square(), -40.0 - x), torch.where(x < 1, -2 * x, -1.0)

    at, low, high = (torch.tensor([end], dtype=torch.float64) for end in (0.1, -3.0, 3.0))
    assert not smooth(lower, at, low, high).all()


def test_rounding_is_no_jump():
    def function(line, x):
        values = (1e5 - x.square()).float().double()
        return values, -2 * x

    at, low, high = (torch.tensor([end], dtype=torch.float64) for end in (0.1, -3.0, 3.0))
    assert smooth(function, at, low, high, grain=2.0**-23).all()
    assert not smooth(function, at, low, high).all()


def test_minus_infinity_next_to_a_value_is_a_jump_and_elsewhere_nothing():
    at, low, high = (torch.tensor([end], dtype=torch.float64) for end in (0.1, -3.0, 3.0))

    def cut(line, x):
        return torch.where(x < 2, -x.square(), -torch.inf), -2 * x

    def faint(line, x):
        return torch.where(x < 2, -100 * x.square(), -torch.inf), -200 * x

    assert not smooth(cut, at, low, high).all()
    assert smooth(faint, at, low, high).all()
