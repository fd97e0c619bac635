import numpy as np
import pytest

from simgraph.diagnostics import mmd
from simgraph.errors import DeclarationError, ShapeError

RNG = np.random.default_rng(0)


def by_hand(x, y, bandwidth):
    def kernel(a, b):
        return np.exp(-((a - b) ** 2).sum() / (2 * bandwidth**2))

    m, n = len(x), len(y)
    inside = sum(kernel(x[i], x[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    inside += sum(kernel(y[i], y[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    return inside - 2 * sum(kernel(a, b) for a in x for b in y) / (m * n)


def test_it_is_the_sum_of_its_equation():
    x, y = RNG.normal(size=(7, 2)), RNG.normal(size=(5, 2)) + 1
    centre, scale = x.mean(0), x.std(0, ddof=1)
    expected = by_hand((x - centre) / scale, (y - centre) / scale, 0.8)
    assert mmd(x, y, bandwidth=0.8) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("dimensions", "shift", "bandwidth"), [(1, 1.0, 1.0), (3, 0.5, 2.0), (2, 5.0, 0.7)])
def test_two_gaussians_have_the_distance_of_the_closed_form(dimensions, shift, bandwidth):
    # E k(x, y) = (l^2 / (l^2 + 2))^(d / 2) exp(-|m|^2 / (2 (l^2 + 2))) for x ~ N(0, I) and y ~ N(m, I).
    x, y = (RNG.normal(size=(2_000, dimensions)) for _ in range(2))
    square = bandwidth**2
    height = (square / (square + 2)) ** (dimensions / 2)
    expected = 2 * height * (1 - np.exp(-dimensions * shift**2 / (2 * (square + 2))))
    # The kernel is at most 1, so the standard error is below 2 / sqrt(2 000); that of the shift's scale is less.
    assert mmd(x, y + shift, bandwidth=bandwidth) == pytest.approx(expected, abs=0.05)


def test_it_is_unbiased():
    found = [mmd(RNG.normal(size=(30, 2)), RNG.normal(size=(30, 2)), bandwidth=1.0) for _ in range(300)]
    # Scales are estimated from the reference, which leaves a bias of order 1 / 30^2.
    assert abs(np.mean(found)) < 4 * np.std(found) / 300**0.5 + 2e-3
    assert min(found) < 0


def test_the_median_of_all_distances_is_the_bandwidth():
    x = np.array([[-1.0], [0.0], [1.0]])
    y = np.array([[3.0], [4.0]])
    # Distances: 1 1 2, 1, 4 3 2 5 4 3; the lower median of ten is 2.
    assert mmd(x, y) == pytest.approx(by_hand(x, y, 2.0), rel=1e-12)


def test_scales_do_not_matter():
    x, y = RNG.normal(size=(100, 2)), RNG.normal(size=(100, 2)) + 0.5
    assert mmd(x * [1e9, 1e-9], y * [1e9, 1e-9]) == pytest.approx(mmd(x, y))


def test_one_dimension_may_be_flat_and_draws_may_be_all_the_same():
    x = RNG.normal(size=50)
    assert mmd(x, x + 3) == pytest.approx(mmd(x[:, None], x[:, None] + 3))
    assert mmd(np.ones((4, 2)), np.ones((4, 2))) == 0


def test_wrong_arguments_are_named():
    x = RNG.normal(size=(5, 2))
    with pytest.raises(ShapeError, match="not of 2 and 1"):
        mmd(x, x[:, :1])
    with pytest.raises(ShapeError, match="not 5 and 1"):
        mmd(x, x[:1])
    with pytest.raises(DeclarationError, match="bandwidth=0 is not a positive number"):
        mmd(x, x, bandwidth=0)
