"""Traces through which lines are drawn have each value of what densities depend on."""

import numpy as np
import torch

from simgraph.train.telling import telling


def chosen(read, count=500, most=10):
    tokens = torch.randn(count, 2, generator=torch.Generator().manual_seed(0))
    return tokens, telling(tokens, read, most)


def test_each_distinct_value_is_there_whatever_its_type():
    rng = np.random.default_rng(0)
    columns = [rng.integers(0, 20, 500), rng.poisson(1.0, 500).astype(np.float32), rng.random(500) < 0.01]
    for column in columns:
        _, found = chosen({"x": (column, ())})
        assert set(column[[row for row, _ in found]].tolist()) == set(column.tolist())


def test_of_many_values_the_ends_are_there_and_what_lies_between():
    column = np.random.default_rng(0).normal(size=500)
    _, found = chosen({"x": (column, ())}, most=0)
    own = column[[row for row, _ in found]]
    assert {column.min(), column.max()} <= set(own.tolist())
    assert 15 < len(found) < 30


def test_the_element_that_has_the_value_is_told():
    values = np.zeros((500, 7, 2))
    values[123, 4, 1] = 1.0
    _, found = chosen({"x": (values, ("item",))}, most=0)
    assert (123, {"item": 4}) in [tuple(own) for own in found]


def test_the_ends_of_tokens_are_there_as_far_as_there_is_room():
    tokens, found = chosen({}, most=10)
    rows = {row for row, _ in found}
    assert {int(row) for row in (*tokens.argmin(0), *tokens.argmax(0))} <= rows
    assert len(chosen({}, most=1)[1]) == len(found) - 3
