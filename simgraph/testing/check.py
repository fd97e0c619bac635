"""The masks of one graph at random questions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

import torch
from torch import Tensor
from torch.nn.functional import pad

from simgraph.compile import Compiled, compile
from simgraph.compile.compiled import DEFAULT_DEPTH
from simgraph.compile.masks import ABSENT, STATE_NAMES
from simgraph.errors import QueryError
from simgraph.graph import Graph
from simgraph.testing.oracle import Question, assert_sound, assert_tight
from simgraph.testing.states import named_states, states_of

__all__ = ["assert_order_invariant", "check_mask"]


def assert_order_invariant(graph: Graph, states: Callable[[Compiled], Tensor], depth: int = DEFAULT_DEPTH) -> None:
    """Asserts that a graph declared in another order has the same masks by name.

    Args:
        graph: The graph.
        states: Makes the condition states (tokens,) of a compiled graph, from its names.
        depth: Number of attention layers.
    """
    both = [compile(Graph(*nodes)) for nodes in (list(graph.values()), list(graph.values())[::-1])]
    _assert_same(both, states, depth)


def check_mask(graph: Graph | Compiled, *, num_queries: int = 30, depth: int = DEFAULT_DEPTH, seed: int = 0) -> None:
    """Checks the masks of a graph at random queries: sound, tight, the same for any order of declaration.

    The oracle takes the links as they are; whether they are right, ``compiled.explain()`` and you can tell.

    Tokens are grouped by variables in half of the queries and chosen one by one in the others. Costs grow with
    the fourth power of the number of tokens: some 20 are checked in seconds, 100 in minutes.

    Args:
        graph: The graph, or the compiled one.
        num_queries: Number of queries.
        depth: Number of attention layers.
        seed: Seed of the queries.

    Raises:
        AssertionError: That names the tokens and the query.
        QueryError: If the number of queries or the depth is no whole number of 1 or more.

    Example:
        >>> from torch.distributions import Normal
        >>> from simgraph import Graph, node
        >>> @node
        ... def theta():
        ...     return Normal(0.0, 1.0)
        >>> @node
        ... def x(theta):
        ...     return Normal(theta, 1.0)
        >>> check_mask(Graph(theta, x))
    """
    for option, value in {"num_queries": num_queries, "depth": depth}.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise QueryError(f"{option}={value!r} is not a whole number of 1 or more.")
    compiled = graph if isinstance(graph, Compiled) else compile(graph)
    both = [compiled]
    if compiled.graph is not None:
        both.append(compile(Graph(*list(compiled.graph.values())[::-1]), observed=compiled.rule.form))
    random = Random(seed)
    label = compiled.layout.label
    for _ in range(num_queries):
        choice = named_states(compiled, random)
        question, mask = _with_functions(compiled, states_of(compiled, choice), depth)
        query = "; ".join(
            f"{word}: {', '.join(label(t) for t in range(len(compiled.layout)) if question.states[t] == state) or '-'}"
            for state, word in STATE_NAMES.items()
        )
        try:
            assert_sound(question, mask, depth, label)
            assert_tight(question, mask, label)
            _assert_same(both, partial(states_of, choice=choice), depth)
        except AssertionError as error:
            raise AssertionError(f"{error}\n  {query}") from None


def _with_functions(compiled: Compiled, states: Tensor, depth: int) -> tuple[Question, Tensor]:
    """Returns a question to all slots, of which functions as a whole are absent, and its mask."""
    hidden = (0, compiled.layout.hidden)
    mask = torch.eye(len(states) + compiled.layout.hidden, dtype=torch.bool)
    mask[: len(states), : len(states)] = compiled.rule.edge_mask(states[None], depth)[0]
    return Question(compiled.rule.families, pad(states, hidden, value=ABSENT)), mask


def _assert_same(both: list[Compiled], states: Callable[[Compiled], Tensor], depth: int) -> None:
    """Asserts that compiled graphs have the same mask by name."""
    masks = []
    for compiled in both:
        order = torch.tensor(compiled.layout.canonical)
        masks.append(compiled.rule.edge_mask(states(compiled)[None], depth)[0][order][:, order])
    assert all(torch.equal(mask, masks[0]) for mask in masks), "the order of declaration changes the mask"
