"""How many observed tokens a token may attend to, by identifier."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import one_hot, pad

from simgraph.compile.masks import OBSERVED
from simgraph.simformer.sparse import Bags

__all__ = ["observed_counts"]


def observed_counts(mask: Tensor | Bags | None, states: Tensor, key_ids: Tensor, identifiers: int) -> Tensor:
    """Counts the observed tokens that each token may attend to, itself among them.

    Args:
        mask: M_E, boolean (batch or 1, tokens, keys), or its pairs; None: all allowed.
        states: Condition states (batch or 1, tokens). Keys in front of the tokens are observed.
        key_ids: Identifiers of the keys, (keys,) or (batch, keys).
        identifiers: Number of identifiers.

    Returns:
        Float (tokens or 1, batch or 1, identifiers).
    """
    known = key_ids.shape[-1] - states.shape[1]
    observed = pad((states == OBSERVED).float(), (known, 0), value=1.0)
    of_key = one_hot(key_ids, identifiers) * observed.unsqueeze(-1)  # batch or 1, keys, identifiers
    if mask is None:
        return of_key.sum(1).unsqueeze(0)
    if isinstance(mask, Bags):
        return mask.totals_of_keys(of_key)
    return (mask.float() @ of_key).transpose(0, 1)
