r"""Property tests of masks, for the graphs of this project and for users' own.

The oracle is d-separation, asked of networkx alone: in the directed graph over tokens, with a noisy copy
:math:`y_i` below each latent token i, the score of i depends on j iff :math:`y_i` is not d-separated from
:math:`y_j` (or from :math:`x_j`, if j is observed) by all other noisy copies and observed tokens.

Three lines test a graph at random queries::

    from simgraph.testing import check_mask

    def test_masks():
        check_mask(my_graph)

The strategies are for hypothesis: ``@given(questions())`` draws random laws with random condition states,
``@given(questions(of=compiled))`` random condition states of one graph, ``@given(graphs())`` random programs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from random import Random
from typing import Any

import networkx as nx
import torch
from torch import Tensor
from torch.distributions import Normal

from simgraph.compile import Compiled, compile
from simgraph.compile.compiled import DEFAULT_DEPTH
from simgraph.compile.masks import ABSENT, LATENT, OBSERVED
from simgraph.dsl import Node, node, plate
from simgraph.errors import MissingExtraError, QueryError
from simgraph.graph import Graph
from simgraph.graph.dependence import Families

try:
    from hypothesis import strategies as st
except ImportError as error:  # pragma: no cover
    raise MissingExtraError("hypothesis", "test", "testing masks") from error

__all__ = [
    "Question",
    "assert_order_invariant",
    "assert_sound",
    "assert_tight",
    "check_mask",
    "graphs",
    "heard",
    "laws",
    "questions",
]


@dataclass(frozen=True)
class Question:
    """A law over tokens and the condition state of each of them.

    Attributes:
        families: The law.
        states: Condition states (tokens,).
    """

    families: Families
    states: Tensor

    def __repr__(self) -> str:
        letters = "".join("-?!"[int(state)] for state in self.states)
        return f"<Question to {len(self.states)} tokens: {letters} (- absent, ? latent, ! observed)>"

    @property
    def tokens(self) -> range:
        """The tokens."""
        return range(len(self.states))

    @property
    def latent(self) -> set[int]:
        """The latent tokens."""
        return self._where(LATENT)

    @property
    def observed(self) -> set[int]:
        """The observed tokens."""
        return self._where(OBSERVED)

    @property
    def absent(self) -> set[int]:
        """The absent tokens."""
        return self._where(ABSENT)

    @property
    def present(self) -> set[int]:
        """The tokens that are not absent."""
        return self.latent | self.observed

    def with_states(self, states: dict[int, int]) -> Question:
        """Returns the question with some tokens in other states."""
        changed = self.states.clone()
        for token, state in states.items():
            changed[token] = state
        return replace(self, states=changed)

    @cached_property
    def dag(self) -> nx.DiGraph:
        """The law as a directed acyclic graph; tokens of one family are fully connected in it."""
        dag = nx.DiGraph()
        dag.add_nodes_from(self.tokens)
        for members, parents in zip(self.families.members, self.families.parents, strict=True):
            group = members.nonzero().flatten().tolist()
            dag.add_edges_from((parent, child) for parent in parents.nonzero().flatten().tolist() for child in group)
            dag.add_edges_from((a, b) for place, b in enumerate(group) for a in group[:place])
        return dag

    @cached_property
    def noisy(self) -> nx.DiGraph:
        """The directed graph with a noisy copy ("y", i) below each latent token i."""
        noisy = self.dag.copy()
        noisy.add_edges_from((i, ("y", i)) for i in self.latent)
        return noisy

    def depends_on(self, i: int, j: int) -> bool:
        """Tells by d-separation whether the score of latent token i depends on token j."""
        copies = {("y", k) for k in self.latent} - {("y", i)}
        if j in self.latent:
            return i == j or not nx.is_d_separator(
                self.noisy, {("y", i)}, {("y", j)}, (copies - {("y", j)}) | self.observed
            )
        return j in self.observed and not nx.is_d_separator(self.noisy, {("y", i)}, {j}, copies | (self.observed - {j}))

    @cached_property
    def depends(self) -> dict[int, set[int]]:
        """D by d-separation: for each latent token the tokens that its score depends on, itself included."""
        return {i: {j for j in self.tokens if self.depends_on(i, j)} for i in self.latent}

    def blanket(self, i: int) -> set[int]:
        """Returns the present tokens that all other present tokens leave dependent on token i."""
        others = self.present - {i}
        return {j for j in others if not nx.is_d_separator(self.dag, {i}, {j}, others - {j})}

    def _where(self, state: int) -> set[int]:
        return {token for token in self.tokens if int(self.states[token]) == state}


def heard(mask: Tensor, tokens: Iterable[int], depth: int | None = None) -> dict[int, set[int]]:
    """Returns, for some tokens, those whose values reach them through so many layers of attention.

    Args:
        mask: Boolean tensor (tokens, tokens).
        tokens: The tokens.
        depth: Number of layers; None for any number.
    """
    graph = nx.from_numpy_array(mask.numpy(), create_using=nx.DiGraph)
    return {token: set(nx.single_source_shortest_path_length(graph, token, cutoff=depth)) for token in tokens}


def assert_sound(question: Question, mask: Tensor, depth: int, name: Callable[[int], str] = str) -> None:
    """Asserts that each latent token hears of every token that its score depends on, within ``depth`` layers.

    Args:
        question: The question that the mask is for.
        mask: Boolean tensor (tokens, tokens).
        depth: Number of attention layers.
        name: Names a token in the message.
    """
    for i, found in heard(mask, question.latent, depth).items():
        missed = question.depends[i] - found
        assert not missed, f"within {depth} layers {name(i)} never hears of {', '.join(map(name, sorted(missed)))}"


def assert_tight(question: Question, mask: Tensor, name: Callable[[int], str] = str) -> None:
    """Asserts that no latent token hears of a token that its score does not depend on, however deep the network.

    Args:
        question: The question that the mask is for.
        mask: Boolean tensor (tokens, tokens).
        name: Names a token in the message.
    """
    for i, found in heard(mask, question.latent).items():
        leaked = found - question.depends[i]
        assert not leaked, f"{name(i)} hears of {', '.join(map(name, sorted(leaked)))}, which tells it nothing"


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
        choice = _named_states(compiled, random)
        question = Question(compiled.families, _states(compiled, choice))
        mask = compiled.rule.edge_mask(question.states[None], depth)[0]
        words = {LATENT: "latent", OBSERVED: "observed", ABSENT: "absent"}
        query = "; ".join(
            f"{words[state]}: {', '.join(label(t) for t in question.tokens if question.states[t] == state) or '-'}"
            for state in words
        )
        try:
            assert_sound(question, mask, depth, label)
            assert_tight(question, mask, label)
            _assert_same(both, partial(_states, choice=choice), depth)
        except AssertionError as error:
            raise AssertionError(f"{error}\n  {query}") from None


def _assert_same(both: list[Compiled], states: Callable[[Compiled], Tensor], depth: int) -> None:
    """Asserts that compiled graphs have the same mask by name."""
    masks = []
    for compiled in both:
        order = torch.tensor(compiled.layout.canonical)
        masks.append(compiled.rule.edge_mask(states(compiled)[None], depth)[0][order][:, order])
    assert all(torch.equal(mask, masks[0]) for mask in masks), "the order of declaration changes the mask"


def _named_states(compiled: Compiled, random: Random) -> dict[Any, int]:
    """Draws condition states by token: whole variables, or one by one."""
    whole = random.random() < 0.5
    by_name = {name: _state(random) for name in sorted(compiled.layout.names)}
    return {token: by_name[token[0]] if whole else _state(random) for token in sorted(compiled.tokens)}


def _states(compiled: Compiled, choice: dict[Any, int]) -> Tensor:
    return torch.tensor([choice[token] for token in compiled.tokens])


def _state(random: Random) -> int:
    return random.choices([LATENT, OBSERVED, ABSENT], [5, 3, 2])[0]


@st.composite
def laws(draw: st.DrawFn, most: int = 12, joint: bool = True) -> Families:
    """Draws laws of 2 to ``most`` tokens, in a random order.

    Args:
        draw: Given by hypothesis.
        most: The largest number of tokens.
        joint: Whether some families have several members.
    """
    # Coins come from one seed: drawing each of them through hypothesis would take most of the time.
    random = Random(draw(st.integers(0, 2**32 - 1)))
    size = random.randint(2, most)
    groups: list[list[int]] = []
    for token in random.sample(range(size), size):
        if joint and groups and len(groups[-1]) < 3 and random.random() < 0.2:
            groups[-1].append(token)
        else:
            groups.append([token])
    members = torch.zeros(len(groups), size, dtype=torch.bool)
    parents = torch.zeros(len(groups), size, dtype=torch.bool)
    density = random.choice([1.0, 2.0, 4.0]) / size
    before: list[int] = []
    for number, group in enumerate(groups):
        members[number, group] = True
        parents[number, [token for token in before if random.random() < density]] = True
        before += group
    return Families(members, parents)


@st.composite
def questions(draw: st.DrawFn, most: int = 12, joint: bool = True, of: Graph | Compiled | None = None) -> Question:
    """Draws questions: the condition states of a random law, or of a compiled graph.

    Args:
        draw: Given by hypothesis.
        most: The largest number of tokens of a random law.
        joint: Whether some families of a random law have several members.
        of: The graph to ask; None for random laws.
    """
    random = Random(draw(st.integers(0, 2**32 - 1)))
    if of is not None:
        of = of if isinstance(of, Compiled) else compile(of)
        return Question(of.families, _states(of, _named_states(of, random)))
    families = draw(laws(most, joint))
    states = torch.tensor([_state(random) for _ in range(families.members.shape[1])])
    return Question(families, states)


@st.composite
def graphs(draw: st.DrawFn, most: int = 5) -> Graph:
    """Draws programs of up to ``most`` nodes: scalars and vectors of Gaussians, some of them in a plate.

    Args:
        draw: Given by hypothesis.
        most: The largest number of nodes.
    """
    random = Random(draw(st.integers(0, 2**32 - 1)))
    repeats = plate("repeat", random.randint(2, 3))
    weight = lambda: random.choice([-1, 1]) * random.uniform(0.5, 1.5)  # noqa: E731
    found: list[Node] = []
    for number in range(random.randint(2, most)):
        inside, size = random.random() < 0.4, random.choice([1, 2, 3])
        parents = [above.name for above in found if random.random() < 0.5]
        found.append(
            node(
                name=f"z{number}",
                parents={f"p{place}": parent for place, parent in enumerate(parents)},
                plates=repeats if inside else (),
            )(_gaussian([weight() for _ in parents], size))
        )
    return Graph(*random.sample(found, len(found)))


def _gaussian(weights: list[float], size: int) -> Callable[..., Normal]:
    """Returns a linear function: elements of a parent meet their own where the sizes agree, else their sum does."""

    def gaussian(**values: Tensor) -> Normal:
        total = torch.zeros(size)
        for weight, value in zip(weights, values.values(), strict=True):
            total = total + weight * (value if value.shape == (size,) else value.sum().expand(size))
        return Normal(total, 1.0)

    return gaussian if weights else lambda: gaussian()
