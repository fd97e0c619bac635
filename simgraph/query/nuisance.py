"""Nuisance variables, which lie between the evidence and what is asked for: drawn along, and left out of the answer.

In p(mu | score) of mu -> effect -> score a network can integrate over ``effect`` by itself, or mu and effect can be
drawn together, which marginalises as well. Posteriors ask for all that is unseen in training, so the second is the
question that was learned. Only what is connected to the asked variables matters: in the moral graph of them, of the
evidence and of all their ancestors, what paths reach that do not run through given variables. What has nothing asked
or given below it is not among them. Of a prior predictive, that is all above it.

References:
    Lauritzen, Graphical Models (1996), proposition 3.25: separation in the moral graph of the ancestral set.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import networkx as nx
from torch import Tensor

from simgraph.compile import Compiled
from simgraph.compile.masks import LATENT, OBSERVED

__all__ = ["nuisances", "with_nuisances"]


def nuisances(
    compiled: Compiled, asked: Sequence[str], given: Collection[str], wholly_given: Callable[[str], bool]
) -> list[str]:
    """Returns the variables that are to be drawn along with what is asked for.

    Functions of an index are not among them: each question looks at a few of their points alone.

    Args:
        compiled: The compiled graph.
        asked: Names that are asked for.
        given: Names of which something is given.
        wholly_given: Tells whether all of a variable is given.

    Returns:
        Names in the order of the tokens.
    """
    layout, parents = compiled.layout, compiled.parents
    above = {parent for name in (*asked, *given) for parent in parents[name]}
    for name in reversed(layout.names):
        above |= set(parents[name]) if name in above else set()
    # A hub for each family marries its parents. Only a function as a whole would separate, and points of it are given.
    moral = nx.Graph()
    for name in above.union(asked, given):
        moral.add_edges_from((("family of", name), member) for member in (name, *parents[name]))
    moral.remove_nodes_from([name for name in layout.names if wholly_given(name) and layout.index_of(name) is None])
    linked = set().union(*(part for part in nx.connected_components(moral) if not part.isdisjoint(asked)))
    drawn = (above & linked).difference(asked, layout.embedded)
    return [name for name in layout.names if name in drawn and layout.index_of(name) is None]


def with_nuisances(compiled: Compiled, states: Tensor) -> Tensor:
    """Returns the condition states (tokens,) of a question in which nuisance variables are asked for as well."""
    layout, states = compiled.layout, states.clone()
    own = {name: states[layout.slots(name)] for name in layout.names}
    asked, given = ([name for name in own if (own[name] == state).any()] for state in (LATENT, OBSERVED))
    for name in nuisances(compiled, asked, given, lambda name: bool((own[name] == OBSERVED).all())):
        own[name][own[name] != OBSERVED] = LATENT
    return states
