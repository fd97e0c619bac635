"""What a token is told the number of: tokens that there are more or fewer of, from trace to trace."""

from __future__ import annotations

import torch
from torch import Tensor

from simgraph.compile.layout import Layout
from simgraph.compile.masks import LATENT, OBSERVED

__all__ = ["counted_kinds"]


def counted_kinds(layout: Layout) -> Tensor | None:
    """Tells which tokens count, and as what.

    Elements of plates whose size varies count whether they are observed or latent, since either tells the size. Of the
    values of functions, in plates as well, the observed ones do: an answer at some points is the same whatever else is
    asked for.

    Returns:
        Float (3, identifiers, kinds): 1 where a token in a condition state, of an identifier, counts as one of a kind.
        None where all numbers are fixed.
    """
    kinds: list[tuple[int, bool]] = []  # identifier, and whether latent tokens count
    for name, plates in layout.plates.items():
        is_function = layout.index_of(name) is not None
        if is_function or not layout.ragged.keys().isdisjoint(plates):
            own = layout.ids[layout.slots(name)].unique().tolist()
            kinds += [(identifier, not is_function) for identifier in own]
    if not kinds:
        return None
    found = torch.zeros(3, len(layout.widths), len(kinds))
    for kind, (identifier, latent) in enumerate(kinds):
        found[OBSERVED, identifier, kind] = 1
        found[LATENT, identifier, kind] = float(latent)
    return found
