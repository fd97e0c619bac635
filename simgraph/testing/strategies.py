"""Random laws, questions and programs, for hypothesis."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Normal

from simgraph.compile import Compiled, compile
from simgraph.dsl import Node, node, plate
from simgraph.graph import Graph
from simgraph.graph.dependence import Families
from simgraph.testing.oracle import Question
from simgraph.testing.states import named_states, random_state, states_of

__all__ = ["graphs", "laws", "questions"]


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
        return Question(of.families, states_of(of, named_states(of, random)))
    families = draw(laws(most, joint))
    states = torch.tensor([random_state(random) for _ in range(families.members.shape[1])])
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
