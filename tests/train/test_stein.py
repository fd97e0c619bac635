"""Traces that do not follow a density are told from such that do."""

import pytest
import torch

from simgraph.train.stein import breaks_stein, breaks_stein_inside

COUNT = 20_000


def normal(generator=None):
    return torch.randn(COUNT, generator=generator or torch.Generator().manual_seed(0))


def scores(*slopes):
    """The scores of tokens whose precision is 1 everywhere, from their slopes."""
    return torch.stack([torch.stack([g, torch.ones_like(g), torch.zeros_like(g)], -1) for g in slopes], 1)


def test_traces_of_the_density_obey():
    a = normal()
    b = a + normal(torch.Generator().manual_seed(1))
    given, tokens = scores(-a + (b - a), -(b - a)), torch.stack([a, b], 1)
    assert not breaks_stein(given, tokens).any()
    assert not breaks_stein_inside(given, tokens).any()


@pytest.mark.parametrize("slope", [lambda a: -1.2 * a, lambda a: -a - 0.1, lambda a: 0 * a])
def test_another_law_is_noticed_by_its_own_token(slope):
    a, b = normal(), normal(torch.Generator().manual_seed(1))
    given, tokens = scores(slope(a), -b), torch.stack([a, b], 1)
    assert breaks_stein(given, tokens).tolist() == [True, False]
    assert breaks_stein_inside(given, tokens).tolist() == [True, False]


def test_a_link_that_is_missing_shows_in_a_product_alone():
    """Both margins are right: that a hangs on b is seen where they are multiplied."""
    b = normal()
    a = 0.6 * b + 0.8 * normal(torch.Generator().manual_seed(1))
    given, tokens = scores(-a, -(b - 0.6 * a) / 0.64), torch.stack([a, b], 1)
    assert breaks_stein(given, tokens).tolist() == [True, False]


def test_an_end_is_none_of_the_inside():
    a = 2 * torch.rand(COUNT, generator=torch.Generator().manual_seed(0)) - 1
    given, tokens = scores(0 * a), a.unsqueeze(1)
    assert breaks_stein(given, tokens).tolist() == [True]
    assert breaks_stein_inside(given, tokens).tolist() == [False]


def test_few_traces_and_unknown_scores_tell_nothing():
    a = normal()
    wrong, tokens = scores(-2 * a), a.unsqueeze(1)
    assert not breaks_stein(wrong[:99], tokens[:99]).any()
    wrong[..., 1] = torch.inf
    assert not breaks_stein(wrong, tokens).any()
