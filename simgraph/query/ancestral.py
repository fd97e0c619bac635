r"""Learned mechanisms in topological order: each variable is drawn from p(v | parents), row by row.

The law of a variable given all of its parents is the one piece of a model that neither an intervention above it nor
what is known below it changes. Who is drawn from whom is known to the compiled graph, with or without its code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from simgraph.query.solvers import Sampler
from simgraph.traces.seeds import integer_seed

if TYPE_CHECKING:
    from simgraph.query.query import Query

__all__ = ["descend"]


def descend(
    query: Query, names: Sequence[str], known: Mapping[str, Tensor], sampler: Sampler | None, seed: int
) -> dict[str, Tensor]:
    """Draws variables one after another, each given its parents in the same row.

    Args:
        query: Any question to the model; its evidence is not used.
        names: What to draw, in topological order.
        known: Values (rows, *plate sizes, *event_shape) of all parents that are not drawn.
        sampler: The solver.
        seed: Seed of the draws.

    Returns:
        Draws (rows, *plate sizes, *event_shape) by name.
    """
    parents = query.trained.compiled.parents
    found: dict[str, Tensor] = {}
    for name in names:
        rows = {parent: found[parent] if parent in found else known[parent] for parent in parents[name]}
        own = integer_seed(seed, name)
        found[name] = query.about(rows).sample(name, num_samples=1, seed=own, sampler=sampler)[:, 0]
    return found
