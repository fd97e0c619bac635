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
