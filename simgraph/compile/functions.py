"""Functions in the factorisation of a graph: hidden slots that their values and children are drawn from.

A function is looked at in finitely many points, and other variables may be drawn from all of it. So the function as a
whole has a *hidden* slot, which no query holds: its values are drawn from it, one by one, and so are its children.
"""

from __future__ import annotations

import torch

from simgraph.compile.layout import Layout
from simgraph.graph.dependence import Families

__all__ = ["seen", "values_of_functions", "with_points"]


def seen(families: Families, layout: Layout) -> Families:
    """Returns a factorisation over tokens alone, for tables and for training's choice of questions.

    Values of one function are drawn together, and what is drawn from a function is drawn from all of its values. Masks
    are derived from the exact one.
    """
    if not layout.hidden:
        return families
    tokens, members, parents = len(layout), families.members, families.parents
    values = values_of_functions(layout)
    kept = ~(members[:, :tokens] & values.any(0)).any(1)
    members, parents = members[kept], parents[kept]
    own = members[:, :tokens] | _joined(members[:, tokens:], values)
    above = parents[:, :tokens] | _joined(parents[:, tokens:], values)
    return Families(own, above & ~own)


def with_points(families: Families, old: Layout, new: Layout) -> Families:
    """Returns the factorisation in which functions have other numbers of values, as a new layout has them.

    Args:
        families: The factorisation over the old layout's slots, the hidden ones included.
        old: A layout.
        new: The same layout with other numbers of points.
    """
    kept = torch.cat([~_is_value(old), torch.ones(old.hidden, dtype=torch.bool)])
    rest = families.among(kept)
    is_value = _is_value(new)
    place = torch.cat([(~is_value).nonzero().flatten(), len(new) + torch.arange(new.hidden)])
    members, parents = (torch.zeros(len(rest.members), len(new) + new.hidden, dtype=torch.bool) for _ in range(2))
    members[:, place], parents[:, place] = rest.members, rest.parents
    values = is_value.nonzero().flatten()
    own, function = (torch.zeros(len(values), len(new) + new.hidden, dtype=torch.bool) for _ in range(2))
    row = torch.arange(len(values))
    own[row, values] = True
    function[row, _function_of(new)[values]] = True
    return Families(torch.cat([members, own]), torch.cat([parents, function]))


def values_of_functions(layout: Layout) -> torch.Tensor:
    """Tells which tokens are values of each hidden function, boolean (hidden, tokens)."""
    return _function_of(layout) == len(layout) + torch.arange(layout.hidden)[:, None]


def _joined(functions: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Returns the values (rows, tokens) of sets of functions (rows, functions)."""
    return (functions.float() @ values.float()) > 0


def _is_value(layout: Layout) -> torch.Tensor:
    """Tells which tokens are values of functions, boolean (tokens,)."""
    return _function_of(layout) >= 0


def _function_of(layout: Layout) -> torch.Tensor:
    """Returns the hidden slot of each token's function, -1 for other tokens: (tokens,)."""
    found = torch.full((len(layout),), -1)
    for name in layout.names:
        if layout.index_of(name) is not None:
            slots = torch.from_numpy(layout.element_slots(name).copy())
            hidden = torch.from_numpy(layout.hidden_slots(name))
            found[slots] = hidden.reshape(*hidden.shape, *[1] * (slots.dim() - hidden.dim())).expand(slots.shape)
    return found
