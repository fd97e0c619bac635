r"""Posterior predictive draws: replicates of variables, given what the evidence says about their parents.

.. math:: p(x' \mid e) = \int p(x' \mid parents) \, p(parents \mid e) \, d \, parents

Parents are drawn from the model given the evidence, of which x itself may be a part; the replicate then follows from
each draw of them by the learned law of x given its parents.

References:
    Rubin, "Bayesianly justifiable and relevant frequency calculations for the applied statistician" (1984), section 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from simgraph.errors import QueryError, listed
from simgraph.query.ancestral import descend
from simgraph.query.samples import Samples
from simgraph.query.solvers import Sampler

if TYPE_CHECKING:
    from simgraph.query.query import Query

__all__ = ["replicates"]


def replicates(query: Query, names: Sequence[str], num_samples: int, sampler: Sampler | None, seed: int) -> Samples:
    """Draws replicates of variables; see :meth:`Query.predict`.

    Returns:
        Samples ([batch,] num_samples, *plate sizes, *event_shape), worth as many as the draws they follow from.

    Raises:
        QueryError: If a variable would not change with the evidence.
    """
    layout, parents = query.trained.compiled.layout, query.trained.compiled.parents
    order = [name for name in layout.names if name in names]
    above = [name for name in layout.names if name not in names and any(name in parents[child] for child in order)]
    latent = [name for name in above if not query.wholly_given(name)]
    for name in order:
        if not any(parent in latent or parent in names for parent in parents[name]):
            why = f"its parents, {listed(parents[name])}, are all given" if parents[name] else "it has no parents"
            rest = ", ".join(f"{parent}=..." for parent in parents[name])
            raise QueryError(
                f"a replicate of {name!r} follows from no unknown: {why}.\n"
                f"  Sample it: {f'model.given({rest})' if rest else 'model'}.sample({name!r})"
            )
    drawn = query.sample(latent, num_samples=num_samples, seed=seed, sampler=sampler)
    known = {name: draw.reshape(-1, *layout.tokenizers[name].variable.shape) for name, draw in drawn.items()}
    known |= {name: query.given_rows(name, num_samples) for name in above if name not in latent}
    found = descend(query, order, known, sampler, seed)
    values = {name: query.arranged(found[name]) for name in names}
    return drawn.following(values, {name: layout.plates[name] for name in names})
