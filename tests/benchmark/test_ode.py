import numpy as np
import pytest

from simgraph.benchmark.ode import solve

TIMES = np.linspace(0, 3, 7)


def decay(y, theta):
    return -theta * y


def rotation(y, theta):
    return theta * np.stack([-y[1], y[0]])


def test_decay_follows_the_exponential():
    rates = np.array([[0.1], [1.0], [30.0]])
    found = solve(decay, lambda y, theta: theta[0], [2.0], rates, TIMES)
    assert found.shape == (3, 7, 1)
    # Local errors are (rate * step)^5 / 120 with a product of at most 0.2, over 3 rate / 0.2 steps.
    np.testing.assert_allclose(found[:, :, 0], 2 * np.exp(-rates * TIMES), rtol=2e-3)


def test_the_error_falls_with_the_fourth_power_of_the_step():
    speed = np.array([[2.0]])
    exact = np.stack([np.cos(2 * TIMES), np.sin(2 * TIMES)], -1)
    errors = [
        np.abs(solve(rotation, lambda y, theta: theta[0], [1.0, 0.0], speed, TIMES, share=share)[0] - exact).max()
        for share in (0.21, 0.105)  # five steps and ten between two times
    ]
    assert errors[0] / errors[1] == pytest.approx(16, rel=0.2)


def test_a_solution_does_not_depend_on_its_company():
    speeds = np.array([[0.3], [5.0], [1.1]])
    together = solve(rotation, lambda y, theta: theta[0], [1.0, 0.0], speeds, TIMES)
    for number in range(3):
        alone = solve(rotation, lambda y, theta: theta[0], [1.0, 0.0], speeds[[number]], TIMES)
        assert (alone[0] == together[number]).all()


def test_a_field_at_rest_stays():
    found = solve(decay, lambda y, theta: theta[0], [2.0], np.zeros((1, 1)), TIMES)
    assert (found == 2).all()
