"""How many elements a ragged plate has in a question: evidence tells it, or ``at=`` does.

A question about a plate of n elements is a question to the model whose plate has the fixed size n: the same weights,
and the masks of a graph of that size. A plate matters if one of its variables, or something below them, is asked for or
given; of any other plate nothing that is asked depends on the size, so the least one serves.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from simgraph.compile import Compiled
from simgraph.compile.layout import Layout
from simgraph.dsl import Plate
from simgraph.errors import QueryError, UnknownNameError, did_you_mean, listed
from simgraph.query.evidence import Missing
from simgraph.query.intervals import Interval
from simgraph.query.numbers import numbers
from simgraph.traces.sizes import told_sizes

__all__ = ["became", "cut", "settled", "told"]


def told(layout: Layout, values: Mapping[str, Any], call: str = "given") -> dict[str, int]:
    """Returns the sizes of ragged plates as the shapes of values tell them.

    Args:
        layout: The tokens; its ragged plates have no size yet.
        values: Numbers, arrays, tensors, missing values or intervals by name.
        call: What the user called, for messages.

    Raises:
        ShapeError: If a size is out of its plate's range, or two values disagree.
        EvidenceError: If a value is no array of numbers.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for name, value in values.items():
        plates, own = layout.plates[name], len(layout.tokenizers[name].variable.shape)
        if not any(plate in layout.ragged for plate in plates):
            continue
        if isinstance(value, Interval):
            # Ends of one number, or of length one, hold for all elements and tell nothing.
            shape = value.low.shape
            if len(shape) == own and all(size > 1 for size in shape[: len(plates)]):
                shapes[name] = shape
            continue
        array = value.values if isinstance(value, Missing) else numbers(f"{call}({name}=...)", value)
        if own <= array.ndim <= own + 1:
            shapes[name] = array.shape[array.ndim - own :]
    axes = {name: [Plate(plate, 1) for plate in layout.plates[name]] for name in shapes}
    return told_sizes(layout.ragged, axes, shapes, f"{call}(...)")


def settled(
    compiled: Compiled, at: Mapping[Any, Any] | None, names: Iterable[str], constants: Collection[str] = ()
) -> dict[str, int]:
    """Returns the sizes of all plates that have none yet.

    Args:
        compiled: The compiled graph.
        at: Sizes by plate, or its name, that a user hands over.
        names: The variables that a question is about: asked for, given or restricted.
        constants: Variables that are set, so that nothing above them matters.

    Raises:
        QueryError: If a size is not known, contradicts what is known, or is out of range.
        UnknownNameError: If there is no such plate.
    """
    layout = compiled.layout
    found: dict[str, int] = {}
    if at is not None and not isinstance(at, Mapping):
        raise QueryError(f"at={at!r} is no mapping from plates to sizes.\n  For example: at={{'school': 7}}")
    for key, value in (at or {}).items():
        plate = key.name if isinstance(key, Plate) else key
        if plate not in layout.plate_names:
            raise UnknownNameError(
                f"at= names {plate!r}, which is no plate of this model.\n"
                f"  {did_you_mean(str(plate), layout.plate_names, 'Plates')}"
            )
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise QueryError(f"at={{{plate!r}: {value!r}}} is no whole number of elements.")
        if plate not in layout.ragged:
            size = _size(layout, plate)
            if value != size:
                raise QueryError(
                    f"at={{{plate!r}: {value}}} contradicts what is known: plate {plate!r} has {size} elements here, by"
                    " its declaration or by the evidence.\n  Leave it out of at=."
                )
            continue
        low, high = layout.ragged[plate].least, layout.ragged[plate].most
        if not low <= value <= high:
            raise QueryError(
                f"at={{{plate!r}: {value}}} is out of range: plate {plate!r} has {low} to {high} elements."
            )
        found[plate] = int(value)
    above = compiled.parents
    about = set(names)
    for name in reversed(layout.names):
        about |= set(above[name]) if name in about and name not in constants else set()
    for plate, own in layout.ragged.items():
        if plate not in found and plate not in layout.indices:
            inside = [name for name in layout.names if name in about and plate in layout.plates[name]]
            if inside:
                raise QueryError(
                    f"nothing tells how many elements plate {plate!r} has, which {listed(inside)} depend"
                    f"{'s' if len(inside) == 1 else ''} on.\n"
                    f"  Say it: at={{{plate!r}: {own.most}}}, from {own.least} to {own.most}; or give a variable of the"
                    " plate, whose length is the size."
                )
            found[plate] = own.least
    return found


def became(before: Layout, after: Layout) -> dict[str, int]:
    """Returns the sizes that ragged plates of one layout have in another."""
    return {plate: _size(after, plate) for plate in before.ragged if plate not in after.ragged}


def cut(layout: Layout, name: str, array: np.ndarray, sizes: Mapping[str, int]) -> np.ndarray:
    """Returns an array (*plate sizes, *event_shape) that is the same for all elements, where plates have sizes."""
    return np.asarray(array[tuple(slice(sizes.get(plate)) for plate in layout.plates[name])])


def _size(layout: Layout, plate: str) -> int:
    name = next(name for name in layout.names if plate in layout.plates[name])
    return layout.tokenizers[name].variable.plate_shape[layout.plates[name].index(plate)]
