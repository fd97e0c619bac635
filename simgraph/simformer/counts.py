"""How many tokens of each kind a token may attend to."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import pad

from simgraph.compile.masks import OBSERVED
from simgraph.simformer.sparse import Bags

__all__ = ["counts_of"]


def counts_of(kinds: Tensor, mask: Tensor | Bags | None, states: Tensor, key_ids: Tensor) -> Tensor:
    """Counts the tokens that each token may attend to, itself among them.

    Args:
        kinds: Which tokens count as what, (3, identifiers, kinds): see :mod:`simgraph.compile.counted`.
        mask: M_E, boolean (batch or 1, tokens, keys), or its pairs; None: all allowed.
        states: Condition states (batch or 1, tokens). Keys in front of the tokens are observed.
        key_ids: Identifiers of the keys, (keys,) or (batch, keys).

    Returns:
        Float (tokens or 1, batch or 1, kinds).
    """
    known = key_ids.shape[-1] - states.shape[1]
    of_key = kinds[pad(states, (known, 0), value=OBSERVED), key_ids]  # batch or 1, keys, kinds
    if mask is None:
        return of_key.sum(1).unsqueeze(0)
    if isinstance(mask, Bags):
        return mask.totals_of_keys(of_key)
    return (mask.to(of_key.dtype) @ of_key).transpose(0, 1)
