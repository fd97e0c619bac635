"""Draws as flat columns, one per element: ``theta[0]`` holds the draws of the first element of ``theta``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from simgraph.errors import QueryError

__all__ = ["columns", "elements", "rows"]


def elements(values: Mapping[str, Tensor], *, batched: bool) -> dict[str, np.ndarray]:
    """Returns the draws of each element, ([batch,] num_samples), by labels like ``theta[0]``.

    Args:
        values: Tensors ([batch,] num_samples, *event_shape) by name.
        batched: Whether the first axis runs over pieces of evidence.
    """
    found: dict[str, np.ndarray] = {}
    lead = 2 if batched else 1
    for name, value in values.items():
        array = value.numpy()
        for element in np.ndindex(*array.shape[lead:]):
            label = f"{name}[{', '.join(map(str, element))}]" if element else name
            found[label] = array[(slice(None),) * lead + element]
    return found


def rows(values: Mapping[str, Tensor], *, batched: bool) -> dict[str, np.ndarray]:
    """Returns the draws (num_samples,) of each element, those of each piece of evidence by a label of their own."""
    found = elements(values, batched=batched)
    if not batched:
        return found
    return {f"batch {piece}: {label}": draws for label, both in found.items() for piece, draws in enumerate(both)}


def columns(values: Mapping[str, Tensor], *, batched: bool) -> dict[str, np.ndarray]:
    """Returns one flat column per element; pieces of evidence are stacked, and numbered in a column ``batch``.

    Raises:
        QueryError: If a variable is called ``batch`` where that column is needed.
    """
    found = elements(values, batched=batched)
    if not batched:
        return found
    if "batch" in found:
        raise QueryError(
            "the column 'batch' numbers the pieces of evidence, and a variable has that name too.\n"
            "  Rename the variable, or use samples.to_numpy()"
        )
    pieces, draws = next(iter(found.values())).shape
    number = np.repeat(np.arange(pieces), draws)
    return {"batch": number} | {label: column.ravel() for label, column in found.items()}
