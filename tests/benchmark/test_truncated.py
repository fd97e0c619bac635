import numpy as np
import pytest
import torch
from scipy.stats import truncnorm

from simgraph.benchmark.truncated import mass, truncated

INTERVALS = [(-1.0, 2.0), (-0.5, 0.1), (3.0, 4.0), (9.0, 9.5), (-12.0, -11.0), (30.0, 31.0), (-40.0, 40.0)]


@pytest.mark.parametrize(("low", "high"), INTERVALS)
def test_draws_are_the_quantiles_of_the_law(low, high):
    uniform = torch.linspace(0, 1, 101, dtype=torch.float64)[:-1]
    draws = truncated(torch.tensor(low).double(), torch.tensor(high).double(), uniform).numpy()
    assert ((draws >= low) & (draws <= high)).all()
    # Intervals above the centre are mirrored, and their draws run downwards.
    shares = np.sort(truncnorm.cdf(draws, low, high))
    step = 0.01
    assert np.abs(shares - np.arange(100) * step).max() < step + 1e-6


@pytest.mark.parametrize(("low", "high"), INTERVALS)
def test_masses_keep_their_digits_in_both_tails(low, high):
    found = mass(torch.tensor(low).double(), torch.tensor(high).double()).item()
    assert found == pytest.approx(mass(torch.tensor(-high).double(), torch.tensor(-low).double()).item(), rel=1e-12)
    assert found > 0
