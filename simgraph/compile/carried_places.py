"""Entries that are put to given places of a tensor: indexed assignment, scattering, adding up groups.

Where places do not depend on an input, each entry's sets go where the entry goes. Entries that meet at one place
are united: they are added up there, or any of them may win.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from simgraph.compile.tracer import Sets, ids_of, values_of

__all__ = ["deposited", "places_of"]

_SPREADS = {"index_add": "source", "index_copy": "source", "index_fill": "value"}
_SCATTERS = {"scatter": "src", "scatter_add": "src", "scatter_reduce": "src"}
_REPLACING = {"index_copy", "index_fill", "scatter", "index_put"}


def places_of(name: str, bound: dict[str, Any]) -> tuple[Tensor, Tensor, bool] | None:
    """Tells where an operation puts new entries.

    Args:
        name: Name of the operation, without a trailing underscore.
        bound: Its arguments by name.

    Returns:
        Places of the new entries in the flattened tensor, their sets in the same shape, and whether the old
        entries stay, too. None for other operations, and where the places depend on an input.
    """
    stays = name not in _REPLACING or bool(bound.get("accumulate")) or bound.get("reduce") is not None
    if name in ("index_put", "_index_put_impl"):
        chosen = [index for index in bound["indices"] if index is not None]
        stays = bool(bound.get("accumulate"))
    elif name in _SPREADS or name in _SCATTERS:
        chosen = [bound["index"]]
    else:
        return None
    if any(bool(ids_of(index).any()) for index in chosen):
        return None
    target = bound["self"]
    number = torch.arange(target.numel()).reshape(target.shape)
    if name in _SPREADS:
        places = number.index_select(bound["dim"], values_of(bound["index"]).reshape(-1))
        filling = bound[_SPREADS[name]]
    elif name in _SCATTERS:
        places = number.gather(bound["dim"], values_of(bound["index"]))
        filling = bound.get("src", bound.get("value"))
    else:
        places = number[tuple(slice(None) if index is None else values_of(index) for index in bound["indices"])]
        filling = bound["values"]
    new = ids_of(filling) if isinstance(filling, Tensor) else torch.tensor(0)
    if name in _SCATTERS and new.dim():
        new = new[tuple(slice(0, size) for size in places.shape)]
    return places, new.expand(places.shape), stays


def deposited(sets: Sets, own: Tensor, places: Tensor, new: Tensor, stays: bool) -> Tensor:
    """Returns sets after entries were put to some places; those that meet at a place are united."""
    flat, where, ids = own.reshape(-1).clone(), places.reshape(-1), new.reshape(-1)
    if not stays:
        flat[where] = 0
    order = where.argsort(stable=True)
    targets, counts = torch.unique_consecutive(where[order], return_counts=True)
    # Entries that meet at one place stand one behind another: rows of equal length, filled with empty sets.
    rank = torch.arange(len(where)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    meeting = torch.zeros(len(targets), int(counts.max()) + 1 if len(counts) else 1, dtype=torch.int64)
    meeting[torch.arange(len(targets)).repeat_interleave(counts), rank + 1] = ids[order]
    meeting[:, 0] = flat[targets]
    flat[targets] = sets.united(meeting)
    return flat.reshape(own.shape)
