"""Bounds that depend on parents: draws stay in the hull, and those outside of their own bounds are reported."""

import pytest
import torch
from torch.distributions import Normal, Uniform

from simgraph import Graph, node
from simgraph.query.bounds import shares_outside


@node
def width():
    return Uniform(1.0, 2.0)


@node
def place(width):
    return Uniform(0.0, width)


@node
def reading(place):
    return Normal(place, 1.0)


GRAPH = Graph(width, place, reading)


def test_the_share_is_counted():
    values = {"width": torch.tensor([1.0, 1.2, 1.4, 1.6]), "place": torch.tensor([1.1, 1.1, 1.5, 1.5])}
    assert shares_outside(GRAPH, values) == {"place": pytest.approx(0.5)}


def test_nothing_is_reported_where_parents_are_unknown_or_all_is_well():
    assert shares_outside(GRAPH, {"place": torch.tensor([5.0])}) == {}
    values = {"width": torch.tensor([1.0]), "place": torch.tensor([0.5]), "reading": torch.tensor([9.0])}
    assert shares_outside(GRAPH, values) == {}


def test_samples_report_it(mixed_model):
    samples = mixed_model.given(width=1.01).sample("place", "count", num_samples=500, seed=0)
    outside = ((samples["place"] < 0) | (samples["place"] > 1.01)).double().mean().item()
    # A model of twenty steps leaks: its draws fill the hull (0, 2).
    assert outside > 0
    assert samples.outside == {"place": pytest.approx(outside)}
    assert "of the draws of 'place' lie outside of the bounds that their parents set" in repr(samples)


def test_a_batch_reports_over_all_rows(mixed_model):
    samples = mixed_model.given(width=[1.01, 1.99]).sample(["place"], num_samples=200, seed=0)
    bounds = torch.tensor([1.01, 1.99])[:, None]
    assert samples.outside["place"] == pytest.approx((samples["place"] > bounds).double().mean().item())
